import pytest

from corl.rollout.assign import assign_requests
from corl.rollout.request import Request


def test_longest_first_to_the_least_loaded_rank():
    costs = [3.0, 7.0, 5.0, 4.0]
    requests = [Request([1], n=2, expected_tokens=cost) for cost in costs]
    assert assign_requests(requests, 2) == [[0, 1], [2, 3]]  # 7 | 5, 4 | then 3 to the rank with 7


def test_max_tokens_stands_in_for_what_nobody_expects_and_ties_go_to_the_lower_index():
    assert assign_requests([Request([1], max_tokens=9)] * 5, 3) == [[0, 3], [1, 4], [2]]
    assert assign_requests([Request([1], max_tokens=9), Request([1], expected_tokens=10.0)], 2) == [[1], [0]]


def test_every_request_goes_to_one_rank_and_ranks_may_stay_empty():
    shares = assign_requests([Request([1], n=n) for n in (1, 5, 2)], 8)
    assert sorted(index for share in shares for index in share) == [0, 1, 2]
    assert len(shares) == 8


def test_no_rank_at_all():
    with pytest.raises(ValueError, match="replicas=0"):
        assign_requests([], 0)
