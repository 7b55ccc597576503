import torch

from bench.memory import peak_bytes

MEGA = 1 << 20


def _bytes(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.uint8)


def test_peak_of_a_known_pattern():
    def pattern():
        first = _bytes(4 * MEGA)
        second = _bytes(8 * MEGA)
        del first
        third = _bytes(12 * MEGA)  # 20 held: the peak
        del second
        fourth = _bytes(2 * MEGA)
        return third, fourth

    assert peak_bytes(pattern) == 20 * MEGA


def test_what_is_freed_is_counted_once():
    def pattern():
        for _ in range(5):
            _bytes(3 * MEGA)

    assert peak_bytes(pattern) == 3 * MEGA


def test_what_was_there_before_does_not_count():
    held = [_bytes(16 * MEGA)]

    def pattern():
        held.clear()
        return _bytes(MEGA)

    assert peak_bytes(pattern) == MEGA


def test_gradients_and_temporaries_inside_an_operator_count():
    x = torch.randn(1 << 20, requires_grad=True)  # 4 MiB

    def forward_and_backward():
        x.exp().sum().backward()

    peak = peak_bytes(forward_and_backward)
    assert x.grad is not None
    assert 8 * MEGA <= peak < 9 * MEGA  # what exp keeps for its gradient, and the gradient
    x.grad = None
    assert peak_bytes(forward_and_backward) == peak


def test_in_place_work_needs_nothing():
    x = torch.zeros(1 << 20)
    assert peak_bytes(lambda: x.add_(1)) < 1024
