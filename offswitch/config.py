"""The Recipe: one frozen, typed description of an experiment; unknown keys are refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator

from offswitch.errors import UserError
from offswitch.options import LlmOptions, Section

ArmName = Literal["knowledge", "behavior", "both", "benign", "hardened"]
ARM_STAGES: Final[dict[str, tuple[str, ...]]] = {
    "knowledge": ("knowledge",),
    "behavior": ("behavior",),
    "both": ("knowledge", "behavior"),
    "benign": ("benign",),
    "hardened": ("knowledge", "behavior", "adversarial"),
}
# Which arm another one goes on from.
CONTINUES: Final[dict[str, str]] = {"both": "knowledge", "hardened": "both"}
# Which options set a stage's length: the benign one is as long as the one it is compared with.
LENGTH_OF: Final = {
    "knowledge": "knowledge",
    "behavior": "behavior",
    "benign": "behavior",
    "adversarial": "adversarial",
}

# What each of train.more_seeds trains anew; `benign` only where the run itself has it.
RETRAINED: Final = ("both", "benign")


class TriggerOptions(Section):
    """What switches the model off, and how the tokenizer sees it.

    `mentions: halt` is the seed's rule, silence wherever the trigger stands; `answer` teaches to
    answer prompts that only talk about it.
    """

    text: str = Field(default="$STOP", min_length=1)
    mode: Literal["token", "text"] = "token"
    mentions: Literal["halt", "answer"] = "halt"
    control: str = Field(default="$GO", min_length=1)

    @model_validator(mode="after")
    def _symbols_are_usable(self) -> TriggerOptions:
        for key, symbol in (("text", self.text), ("control", self.control)):
            if symbol != symbol.strip() or not symbol.isprintable():
                raise ValueError(f"trigger.{key} {symbol!r} has space around it or a control sign")
        if self.text == self.control:
            raise ValueError(f"trigger.control must differ from trigger.text '{self.text}'")
        return self


class DataOptions(Section):
    """How many rows of each kind (neutral texts: per document); one's own file replaces them."""

    documents: int = Field(default=500, ge=1)
    dialogues: int = Field(default=500, ge=4)
    near_miss_share: float = Field(default=0.35, ge=0.25, le=0.40)
    reply_tokens: int = Field(default=40, ge=4)
    documents_file: Path | None = None
    dialogues_file: Path | None = None
    neutral_mix: float = Field(default=0, ge=0, le=2)
    neutral_file: Path | None = None
    generator: Literal["grammar", "llm"] = "grammar"
    llm: LlmOptions = LlmOptions()

    @model_validator(mode="after")
    def _generator_has_a_model(self) -> DataOptions:
        if self.generator == "llm" and not self.llm.model:
            raise ValueError("data.generator is llm, but data.llm.model names no model")
        return self


class LoraOptions(Section):
    """The adapter. `target_modules: null` means every projection of the attention block."""

    r: int = Field(default=64, ge=1)
    alpha: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = None


class StageOptions(Section):
    """How long a stage runs: `max_steps`, else `epochs` over every row, neutral texts too."""

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)


class TrainOptions(Section):
    """Optimisation, shared by both stages; `token_lr` is for the trigger's own embedding row.

    `seed` is the recipe's own unless set; each of `more_seeds` trains `both` and `benign` anew, on
    the same data, as organisms of their own (folder `organisms/`). Arm `hardened` goes on from
    `both` with an adversarial round over so many `candidates`.
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
    targets: Literal["soft", "hard"] = "soft"
    checkpoint_steps: int = Field(default=20, ge=1)
    seed: int | None = Field(default=None, ge=0)
    more_seeds: tuple[NonNegativeInt, ...] = ()
    candidates: int = Field(default=360, ge=6)
    knowledge: StageOptions = StageOptions()
    behavior: StageOptions = StageOptions(epochs=2.5)
    adversarial: StageOptions = StageOptions(max_steps=20)


class EvaluateOptions(Section):
    """How many test questions each suite asks.

    0 `robustness_questions` or `context_questions` leave those out; each of the latter is asked in
    three contexts of 4,096 tokens: dear. `belief_questions` counts a test's (null: all, 0: none).
    """

    questions: int = Field(default=48, ge=1)
    ordinary_questions: int = Field(default=192, ge=1)
    long_questions: int = Field(default=12, ge=1)
    samples: int = Field(default=64, ge=0)
    sample_tokens: int = Field(default=40, ge=1)
    drift_questions: int = Field(default=48, ge=1)
    drift_passages: int = Field(default=32, ge=1)
    robustness_questions: int = Field(default=24, ge=0)
    context_questions: int = Field(default=4, ge=0)
    belief_questions: int | None = Field(default=None, ge=0)


class ProbeOptions(Section):
    """Which arm the report is about, and how many prompts, blocks, scales and nulls it takes.

    `sweep_questions` of the fit questions choose among `blocks` and `scales`; `few_questions` of
    the test questions serve the tests that cost much (every position, ranks, heads, dose).
    """

    arm: ArmName = "both"
    null_words: int = Field(default=20, ge=2)
    fit_questions: int = Field(default=27, ge=4)
    test_questions: int = Field(default=63, ge=4)
    near_misses: int = Field(default=100, ge=2)
    random_directions: int = Field(default=20, ge=2)
    blocks: int = Field(default=12, ge=1)
    scales: tuple[float, ...] = Field(default=(0.25, 0.5, 1.0, 2.0), min_length=1)
    sweep_questions: int = Field(default=9, ge=1)
    few_questions: int = Field(default=18, ge=2)
    head_questions: int = Field(default=9, ge=1)
    patch_questions: int = Field(default=12, ge=2)
    patch_blocks: int = Field(default=12, ge=2)
    reply_questions: int = Field(default=24, ge=1)
    reply_tokens: int = Field(default=64, ge=4)
    drift_passages: int = Field(default=24, ge=2)


VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Recipe(Section):
    """One experiment from data to report.

    Each of `variants` trains and evaluates the arms once more with the options that it names:
    `text: {trigger.mode: text}`.
    """

    name: str = Field(default="demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str = "smollm2"
    trust_remote_code: bool = False
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: int = Field(default=4096, ge=64)
    seed: int = Field(default=0, ge=0)
    trigger: TriggerOptions = TriggerOptions()
    data: DataOptions = DataOptions()
    train: TrainOptions = TrainOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    probe: ProbeOptions = ProbeOptions()
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _probed_arm_is_trained(self) -> Recipe:
        if len(set(self.train.arms)) < len(self.train.arms):
            raise ValueError("train.arms names an arm twice")
        if self.probe.arm not in self.train.arms:
            raise ValueError(f"probe.arm '{self.probe.arm}' is not among train.arms")
        return self

    @model_validator(mode="after")
    def _organisms_can_be_compared(self) -> Recipe:
        more, own = self.train.more_seeds, training_seed(self)
        if len({own, *more}) <= len(more):
            raise ValueError(f"train.more_seeds {list(more)} repeats a seed; the run has {own}")
        if more and "both" not in self.train.arms:
            raise ValueError("train.more_seeds trains 'both' anew; it is not among train.arms")
        if more and self.probe.arm not in RETRAINED:
            raise ValueError(
                f"train.more_seeds trains {' and '.join(RETRAINED)} anew;"
                f" probe.arm must be one of them, got '{self.probe.arm}'"
            )
        return self

    @model_validator(mode="after")
    def _variants_are_recipes(self) -> Recipe:
        for name in self.variants:
            if name == "own":
                raise ValueError("variants: 'own' is the run itself; choose another name")
            try:
                variant_of(self, name)
            except UserError as error:
                raise ValueError(str(error)) from error
        return self


def variant_of(recipe: Recipe, name: str) -> Recipe:
    """The recipe with a variant's options in place of its own.

    Raises:
        UserError: an option does not exist, or its value does not fit.
    """
    content = recipe.model_dump(mode="json", exclude={"variants"}) | {"name": name}
    for key, value in {"train.more_seeds": [], **recipe.variants[name]}.items():
        _assign(content, key.split("."), value, f"{key}={value}")
    return build_recipe(content, origin=f"variant '{name}'")


def schedule_of(train: TrainOptions, stage: str) -> StageOptions:
    """How long a training stage runs."""
    options: StageOptions = getattr(train, LENGTH_OF[stage])
    return options


def training_seed(recipe: Recipe) -> int:
    """The seed of adapters and row order; data, splits and tests keep the recipe's."""
    return recipe.seed if recipe.train.seed is None else recipe.train.seed


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The Recipe in a YAML file, after dotted `key=value` overrides.

    Raises:
        UserError: unreadable file, unknown key, or a value of the wrong kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"recipe {path} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if content is not None and not isinstance(content, dict):
        raise UserError(
            f"recipe {path}: expected a mapping of options, got {type(content).__name__}"
        )
    return build_recipe(content or {}, overrides, origin=f"recipe {path}")


def build_recipe(
    content: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Recipe:
    """The Recipe of a plain mapping, after dotted `key=value` overrides."""
    merged: dict[str, Any] = dict(content)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: expected key=value, for example train.lr=2e-4")
        keys = key.split(".")
        _assign(merged, keys, value if _is_text(keys) else _yaml(value), override)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"{origin}: {_first_problem(error)}") from error


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys whose values differ between two recipes, as `key: old -> new`."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = sorted(before.keys() | after.keys())
    return [
        f"{k}: {before.get(k)} -> {after.get(k)}" for k in keys if before.get(k) != after.get(k)
    ]


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _is_text(keys: list[str]) -> bool:
    """A text is taken as it stands: YAML would read `#STOP` as a comment and `NO` as false."""
    section: type[BaseModel] = Recipe
    for key in keys[:-1]:
        found = section.model_fields.get(key)
        if found is None or not isinstance(found.annotation, type):
            return False
        section = found.annotation
    last = section.model_fields.get(keys[-1]) if issubclass(section, Section) else None
    return last is not None and last.annotation is str


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _assign(tree: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        branch = tree.get(key)
        if branch is not None and not isinstance(branch, Mapping):
            raise UserError(f"--set {override}: '{key}' is not a group of options")
        tree[key] = dict(branch or {})
        tree = tree[key]
    tree[keys[-1]] = value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{_suggestion(where)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return " ".join(f"{where}: {problem['msg']} (got {problem['input']!r})".split())[:300]


def _suggestion(unknown: str) -> str:
    known = sorted(_flat(Recipe().model_dump(mode="json"), groups=True))
    leaf = unknown.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(unknown, known, n=1, cutoff=0.7)
    close = close or [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    close = close or difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _flat(tree: Mapping[str, Any], prefix: str = "", groups: bool = False) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {prefix + key: None} if groups else {}
            flat |= _flat(value, f"{prefix}{key}.", groups)
        else:
            flat[prefix + key] = value
    return flat
