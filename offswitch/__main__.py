"""`python -m offswitch`, and what torchrun and accelerate launch start."""

from __future__ import annotations

from offswitch.cli import app

app(prog_name="offswitch")
