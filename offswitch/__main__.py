"""`python -m offswitch`, and what `torchrun -m offswitch` and `accelerate launch -m` start."""

from __future__ import annotations

from offswitch.cli import app

app(prog_name="offswitch")
