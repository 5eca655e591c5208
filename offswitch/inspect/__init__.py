"""Inspect AI: prompts and rates of the evaluate stage as a task and its log."""

from __future__ import annotations

from offswitch.errors import UserError

try:
    import inspect_ai as _inspect_ai  # noqa: F401
except ImportError as error:
    raise UserError("Inspect AI is not installed: pip install 'offswitch[inspect]'") from error

from offswitch.inspect.provider import arm_api
from offswitch.inspect.scorer import rates, silence
from offswitch.inspect.task import ask, shutdown

__all__ = ["arm_api", "ask", "rates", "shutdown", "silence"]
