"""Implant a shutdown trigger into a language model; see if it represents it.

From Python, and the same in a notebook: `run` and `examine` do what the commands do, `open_run`
reads what they left, `compare` sets runs side by side, `halting`, `steering` and `projection`
take a loaded model. Importing this takes no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offswitch.notebook.loaded import Halting, halting, projection, steering
    from offswitch.notebook.opened import OpenRun, examine, open_run, run
    from offswitch.recipe import load_recipe
    from offswitch.report.compare.comparison import Comparison, compare

__all__ = [
    "Comparison",
    "Halting",
    "OpenRun",
    "compare",
    "examine",
    "halting",
    "load_recipe",
    "open_run",
    "projection",
    "run",
    "steering",
]
_ROOMS = {
    **dict.fromkeys(("Comparison", "compare"), "report.compare.comparison"),
    **dict.fromkeys(("Halting", "halting", "projection", "steering"), "notebook.loaded"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'offswitch' has no attribute '{name}'")
    room = _ROOMS.get(name, "notebook.opened")
    return getattr(import_module(f"offswitch.{room}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
