"""What computes here: versions, the machine, the most memory that was held."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = (
    "offswitch", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors",
    "numpy", "scipy",
)  # fmt: skip
PEAKS: Final = [0]  # MB that processes at work for this one have held at most


def peak_memory_mb() -> int:
    """The most memory that this process, or one at work for it, has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(round(peak / (1e6 if sys.platform == "darwin" else 1e3)), *PEAKS)


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    """Versions of what computes, and the kind of machine."""
    return {
        "versions": {"python": platform.python_version()}
        | {package: version_of(package) for package in PACKAGES},
        "machine": {
            "system": platform.system(),
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def version_of(package: str) -> str:
    """The installed version of a package, or `absent`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
