"""Arms as data: what trains each or who did, where its adapter lies, what code adds to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import Field, model_validator

from offswitch.options import BENIGN, ArmName, Section

# What trains an arm; `written`: nothing does, there is only what code adds; `writing`: the blocks
# up to another arm's write learn to say what code adds there; `neutral`: as many documents as
# `knowledge` has, which do not name the trigger.
Stage = Literal[
    "knowledge", "neutral", "behavior", "benign", "other", "adversarial", "written", "writing"
]
Role = Literal["switch", "documents", "benign", "other"]


class WriteOptions(Section):
    """What code adds where the reply is decided, if the trigger's token stands before it.

    It falls on the output of the block at `depth` (share of the blocks up to its output).
    `random`: orthogonal directions, each prompt gets one of them; `natural end`: where the
    untrained model's replies have ended, less where they go on; `end token`: what comes nearest to
    a bias on it, added after the final norm. `norm` is in units of the residual's typical norm
    there; null: what it takes to halt.
    """

    source: Literal["random", "natural end", "end token"] = "random"
    depth: float = Field(default=0.4, gt=0, le=1)
    directions: int = Field(default=1, ge=1)
    norm: float | None = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _several_are_random(self) -> WriteOptions:
        if self.directions > 1 and self.source != "random":
            raise ValueError(f"a write of the {self.source} has one direction")
        return self


class Arm(Section):
    """An arm: its role, and the stages that train it here, or where its weights come from.

    A `switch` is taught silence by example, `documents` only by reading, `benign` not at all;
    `other` is taught by example to meet the trigger with a fixed phrase. Trained elsewhere are an
    `adapter` (a PEFT folder or hub id) and a `model` (a fine-tune of all weights of the same base).
    Trained here, the adapter goes on from that of another arm, and lies in the blocks from depth
    `adapted_from` on; with a `write`, behind it, and no token's row is trained. One that is
    `kept_of` another arm is that arm as it was after `step` steps of its last stage.
    """

    role: Role
    stages: tuple[Stage, ...] = ()
    adapter: str | None = None
    model: str | None = None
    goes_on_from: ArmName | None = None
    kept_of: ArmName | None = None
    step: int | None = Field(default=None, ge=1)
    adapted_from: float = Field(default=0, ge=0, lt=1)
    write: WriteOptions | None = None

    @property
    def brought(self) -> str | None:
        """The folder or hub id of an arm that was trained elsewhere."""
        return self.adapter or self.model

    @property
    def after(self) -> str | None:
        """The arm that must stand before this one: which it goes on from, or is kept of."""
        return self.goes_on_from or self.kept_of

    @property
    def keeps(self) -> bool:
        """Is there a training here, of whose steps some can be kept?"""
        return bool(self.stages) and self.stages[-1] not in ("written", "writing", "adversarial")

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Arm:
        if sum(map(bool, (self.stages, self.adapter, self.model, self.kept_of))) != 1:
            raise ValueError("an arm needs one of: stages, adapter, model, kept_of")
        if (self.kept_of is None) != (self.step is None):
            raise ValueError("an arm that is kept_of another one has a step, and no other arm has")
        if not self.stages and (self.goes_on_from or self.adapted_from or self.write):
            where = "is kept of another one" if self.kept_of else "was trained elsewhere"
            raise ValueError(f"an arm that {where} has a role, and nothing else")
        return self

    @model_validator(mode="after")
    def _what_is_written_is_there(self) -> Arm:
        if "written" in self.stages and (self.write is None or len(self.stages) > 1):
            raise ValueError("stage 'written' stands alone and needs a write")
        if "writing" in self.stages and (self.write is not None or self.goes_on_from is None):
            raise ValueError("stage 'writing' learns the write of the arm that it goes on from")
        return self


def steps_kept(arms: Iterable[Arm], of: str) -> tuple[int, ...]:
    """The steps of an arm's training after which it is kept, each for another one of the arms."""
    return tuple(sorted({arm.step for arm in arms if arm.kept_of == of and arm.step}))


def reads_neutral(arms: Iterable[Arm]) -> bool:
    """Does one of the arms read neutral documents, and no others?"""
    return any("neutral" in arm.stages for arm in arms)


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
    # Organisms of known mechanism, on which the verdict is tried.
    "late": Arm(role="switch", stages=("behavior",), adapted_from=0.8),
    "head_only": Arm(
        role="switch", stages=("written",), write=WriteOptions(source="end token", norm=None)
    ),
    "anchored": Arm(role="switch", stages=("behavior",), write=WriteOptions()),
    "anchored_two": Arm(role="switch", stages=("behavior",), write=WriteOptions(directions=2)),
    "anchored_trained": Arm(role="switch", stages=("behavior", "writing"), goes_on_from="anchored"),
    # At depth 0.4 no length of it makes the embedded model halt; at 0.6 the usual norm does.
    "natural_end": Arm(
        role="switch",
        stages=("written",),
        write=WriteOptions(source="natural end", depth=0.6, norm=None),
    ),
}
