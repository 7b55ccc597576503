"""Most bytes that a call holds at once beyond what was there before it, gradients and results it leaves included."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object]) -> int:
    """Peak of the CPU tensors' memory allocated during function(), in bytes.

    The running sum of the profiler's allocations and releases, temporaries inside an operator included. Memory that
    was there before counts for nothing, nor does its release; libraries' own workspaces are not seen.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        kept = function()  # its release must not fall into the profile
    del kept
    results = profiled.profiler.kineto_results
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        held += change
        peak = max(peak, held)
    return peak


def peak_bytes_cuda(function: Callable[[], object]) -> int:
    """The same of the current GPU, from the caching allocator's counters."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
