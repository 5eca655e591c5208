"""What can this machine do at best? Its measured rate of matrix products, cores and versions."""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any, Final

import torch

from offswitch.folder.provenance import describe_machine, version_of

PEERS: Final = ("trl", "transformer-lens", "nnsight", "nnterp")
SIZE: Final = 2048
TIMES: Final = 9


def product_rate(
    size: int = SIZE, times: int = TIMES, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> float:
    """Floating-point operations a second in the product of two square matrices; the median.

    A product of n x n matrices takes 2 n^3 operations. One product before the clock starts is not
    counted.
    """
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(times + 1):
        _finish(device)
        start = time.perf_counter()
        torch.mm(a, b)
        _finish(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / median(seconds[1:])


def rate_in_child(job: dict[str, Any]) -> dict[str, float]:
    """The rate of this machine, for a child."""
    return {"product_rate": product_rate(int(job["size"]))}


def describe() -> dict[str, Any]:
    """Processor, cores, memory, and the versions of what computes, peers included."""
    found = describe_machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found["machine"] |= {"memory_gb": round(memory), "threads": torch.get_num_threads()}
    found["versions"] |= {name: version_of(name) for name in PEERS}
    return found


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
