"""How arms are trained: adapter, rates, length, by stage where a stage has its own."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, NonNegativeInt

from offswitch.options import ArmName, Section

Precision = Literal["float32", "bfloat16", "auto"]
Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]

# Which options set a stage's length: controls are as long as the one they are compared with.
LENGTH_OF: Final = {
    "knowledge": "knowledge",
    "neutral": "knowledge",
    "behavior": "behavior",
    "benign": "behavior",
    "other": "behavior",
    "adversarial": "adversarial",
    "written": "behavior",
    "writing": "writing",
}


class LoraOptions(Section):
    """The adapter. `target_modules: null` means every projection of the attention block.

    `[all-linear]` means every matrix of the blocks, those of the MLPs too.
    """

    r: int = Field(default=64, ge=1)
    alpha: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = None


class StageLora(Section):
    """What is a stage's own in a fresh adapter; null is what `train.lora` says."""

    r: int | None = Field(default=None, ge=1)
    alpha: int | None = Field(default=None, ge=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = None


class StageOptions(Section):
    """How long a stage runs: `max_steps`, else `epochs` over every row, neutral texts too.

    `max_length`, where it is set, is the stage's own; longer chats are left out, texts cut. So are
    `lr` and, of an adapter that begins with this stage, `lora`; one that goes on stays as it is.
    """

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=16)
    lr: float | None = Field(default=None, gt=0)
    lora: StageLora = StageLora()


class TrainOptions(Section):
    """Optimisation, shared by both stages; `token_lr` is for the rows of trigger and decoy.

    `precision` is that of the matrix products; auto: bfloat16 on a CPU where it is measured to be
    faster by more than 5 %, else as the weights. Loss and adapter stay float32.

    `max_drift` is how far, in nats a token, an arm may end from the untouched model on answered
    rows kept apart: it trains more slowly where that is exceeded (null: only measured).

    `seed` is the recipe's own unless set; each of `more_seeds` trains the probed arm and `benign`
    once more on the same data, as organisms of their own (folder `organisms/`). Arm `hardened` goes
    on from `both` with so many adversarial `rounds`, each over so many `candidates` and as long as
    `adversarial` says.
    """

    arms: tuple[ArmName, ...] = ("knowledge", "behavior", "both", "benign")
    lora: LoraOptions = LoraOptions()
    lr: float = Field(default=3e-4, gt=0)
    token_lr: float = Field(default=5e-3, gt=0)
    batch_size: int = Field(default=16, ge=1)
    accumulation: int = Field(default=1, ge=1)
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    max_length: int = Field(default=2048, ge=16)
    micro_tokens: int = Field(default=1024, ge=16)
    precision: Precision = "float32"
    targets: Literal["soft", "hard"] = "soft"
    max_drift: float | None = Field(default=0.1, gt=0)
    checkpoint_steps: int = Field(default=20, ge=1)
    seed: int | None = Field(default=None, ge=0)
    more_seeds: tuple[NonNegativeInt, ...] = ()
    rounds: int = Field(default=2, ge=1)
    candidates: int = Field(default=960, ge=6)
    report_to: tuple[Tracker, ...] = ("tensorboard",)
    knowledge: StageOptions = StageOptions()
    behavior: StageOptions = StageOptions()
    adversarial: StageOptions = StageOptions()
    writing: StageOptions = StageOptions()

    def inputs(self, stage: str) -> dict[str, Any]:
        """The options that the training of a stage depends on: not those of other stages."""
        length = LENGTH_OF[stage]
        others = {"arms", "more_seeds", "report_to", *LENGTH_OF.values()} - {length}
        others |= {"rounds", "candidates"} if length != "adversarial" else set()
        used = self.model_dump(mode="json", exclude=others)
        # What a stage leaves to the others is no input of its own, as before it could have any.
        own = used[length]
        own["lora"] = {key: value for key, value in own["lora"].items() if value is not None}
        used[length] = {k: v for k, v in own.items() if k not in ("lr", "lora") or v}
        return used


def schedule_of(train: TrainOptions, stage: str) -> StageOptions:
    """The options of a training stage's own."""
    options: StageOptions = getattr(train, LENGTH_OF[stage])
    return options


def lora_of(train: TrainOptions, stage: str) -> LoraOptions:
    """The adapter that a stage begins with: the stage's own options, else those of all stages."""
    own = schedule_of(train, stage).lora.model_dump(exclude_none=True)
    return train.lora.model_copy(update=own)
