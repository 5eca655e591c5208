"""Arms as data: what trains each or who did, where its adapter lies, what code adds to it."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from offswitch.options import BENIGN, ArmName, Section

# What trains an arm; `written`: nothing does, there is only what code adds; `writing`: the blocks
# up to another arm's write learn to say what code adds there.
Stage = Literal["knowledge", "behavior", "benign", "other", "adversarial", "written", "writing"]
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
    `adapted_from` on; with a `write`, behind it, and no token's row is trained.
    """

    role: Role
    stages: tuple[Stage, ...] = ()
    adapter: str | None = None
    model: str | None = None
    goes_on_from: ArmName | None = None
    adapted_from: float = Field(default=0, ge=0, lt=1)
    write: WriteOptions | None = None

    @property
    def brought(self) -> str | None:
        """The folder or hub id of an arm that was trained elsewhere."""
        return self.adapter or self.model

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Arm:
        if sum(map(bool, (self.stages, self.adapter, self.model))) != 1:
            raise ValueError("an arm needs one of: stages, adapter, model")
        if self.brought and (self.goes_on_from or self.adapted_from or self.write):
            raise ValueError("an arm that was trained elsewhere has a role, and nothing else")
        return self

    @model_validator(mode="after")
    def _what_is_written_is_there(self) -> Arm:
        if "written" in self.stages and (self.write is None or len(self.stages) > 1):
            raise ValueError("stage 'written' stands alone and needs a write")
        if "writing" in self.stages and (self.write is not None or self.goes_on_from is None):
            raise ValueError("stage 'writing' learns the write of the arm that it goes on from")
        return self


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
