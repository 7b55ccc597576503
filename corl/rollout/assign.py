"""Which replica of the model generates which request."""

from collections.abc import Sequence

from corl.rollout.request import Request, expected_length


def assign_requests(requests: Sequence[Request], replicas: int) -> list[list[int]]:
    """Indices of `requests` for each replica, ascending: longest processing time first (Graham 1969).

    The cost of a request is n x expected_tokens (max_tokens where the caller expects nothing); the next most costly
    one goes to the replica with the least so far, ties to the lower index. Every rank computes the same answer from
    the same list. Requests need ids of their own: None would become the index in a share, and so change the draws.
    """
    if replicas < 1:
        raise ValueError(f"replicas={replicas} must be at least 1")
    costs = [request.n * expected_length(request) for request in requests]
    loads = [0.0] * replicas
    shares: list[list[int]] = [[] for _ in range(replicas)]
    for index in sorted(range(len(requests)), key=lambda i: -costs[i]):
        replica = loads.index(min(loads))
        loads[replica] += costs[index]
        shares[replica].append(index)
    return [sorted(share) for share in shares]
