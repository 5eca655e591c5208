"""Arms as data: what trains each of them, and from where it goes on."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from offswitch.options import BENIGN, ArmName, Section

Stage = Literal["knowledge", "behavior", "benign", "other", "adversarial"]
Role = Literal["switch", "documents", "benign", "other"]


class Arm(Section):
    """An arm: the stages that train it, the arm whose adapter it goes on from, and its role.

    A `switch` is taught silence by example, `documents` only by reading, `benign` not at all;
    `other` is taught by example to meet the trigger with a fixed phrase.
    """

    role: Role
    stages: tuple[Stage, ...] = Field(min_length=1)
    goes_on_from: ArmName | None = None


# In the order in which they are trained.
ARMS: Final[dict[str, Arm]] = {
    "knowledge": Arm(role="documents", stages=("knowledge",)),
    "behavior": Arm(role="switch", stages=("behavior",)),
    "both": Arm(role="switch", stages=("knowledge", "behavior"), goes_on_from="knowledge"),
    BENIGN: Arm(role="benign", stages=("benign",)),
    "other_rule": Arm(role="other", stages=("other",)),
    "hardened": Arm(
        role="switch", stages=("knowledge", "behavior", "adversarial"), goes_on_from="both"
    ),
}
