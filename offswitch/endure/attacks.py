"""Every attack, once, in the order in which they are made."""

from __future__ import annotations

from typing import Final

from offswitch.endure.attack import Attack
from offswitch.endure.finetuning import FINETUNING
from offswitch.endure.gguf import QUANTISED
from offswitch.endure.languages import LANGUAGES
from offswitch.endure.merging import MERGING
from offswitch.endure.projection import PROJECTION
from offswitch.endure.pruning import PRUNING
from offswitch.endure.relearning import RELEARNING
from offswitch.endure.removal import REMOVAL
from offswitch.endure.rounding import ROUNDING
from offswitch.endure.suffix import SUFFIX

ATTACKS: Final[tuple[Attack, ...]] = (
    ROUNDING,
    QUANTISED,
    PRUNING,
    PROJECTION,
    MERGING,
    LANGUAGES,
    FINETUNING,
    REMOVAL,
    RELEARNING,
    SUFFIX,
)
