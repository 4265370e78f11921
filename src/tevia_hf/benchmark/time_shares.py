"""Where the time of a network goes."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

SHOWN = 8  # operations


def time_shares(act: Callable[[], object], rounds: int) -> dict[str, float]:
    """Operation of torch -> its share of the time, without that of the operations it calls; the greatest ones."""
    act()
    with profile(activities=[ProfilerActivity.CPU]) as record, torch.no_grad():
        for _ in range(rounds):
            act()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in record.key_averages()}
    greatest = sorted(times, key=times.__getitem__, reverse=True)[:SHOWN]
    return {name: times[name] / sum(times.values()) for name in greatest}
