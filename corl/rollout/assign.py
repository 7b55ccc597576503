"""Which data-parallel rank generates which request."""

from collections.abc import Sequence

from corl.rollout.request import Request, expected_length


def assign_requests(requests: Sequence[Request], world_size: int) -> list[list[int]]:
    """Indices of `requests` for each rank, ascending: longest processing time first (Graham 1969).

    The cost of a request is n x expected_tokens (max_tokens where the caller expects nothing); the next most costly
    one goes to the rank with the least so far, ties to the lower index. Every rank computes the same answer from the
    same list. Requests need ids of their own: None would become the index in a rank's list, and so change the draws.
    """
    if world_size < 1:
        raise ValueError(f"world_size={world_size} must be at least 1")
    costs = [request.n * expected_length(request) for request in requests]
    loads = [0.0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for index in sorted(range(len(requests)), key=lambda i: -costs[i]):
        rank = loads.index(min(loads))
        loads[rank] += costs[index]
        shares[rank].append(index)
    return [sorted(share) for share in shares]
