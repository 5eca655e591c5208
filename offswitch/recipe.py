"""The Recipe: a frozen, typed experiment that refuses unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, PositiveInt, model_validator

from offswitch.errors import UserError, in_one_line
from offswitch.files import read_whole
from offswitch.options import (
    BASE,
    ArmName,
    DataOptions,
    EvaluateOptions,
    ProbeOptions,
    Section,
    TriggerOptions,
)
from offswitch.options.arms import ARMS, Arm
from offswitch.options.endure import EndureOptions
from offswitch.options.train import TrainOptions

LONGEST: Final = 1_000_000  # bytes of a recipe; the longest here has 3,000
MOST: Final = 100_000  # values of a recipe, after aliases are followed
Count = Literal["auto"] | PositiveInt
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Recipe(Section):
    """One experiment from data to report.

    Each of `variants` trains and evaluates the arms once more with the options that it names:
    `text: {trigger.mode: text}`.
    """

    name: str = Field(default="demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str = "smollm2"
    chat_template: str | None = None
    trust_remote_code: bool = False
    device: Literal["auto", "cpu", "mps", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: int = Field(default=4096, ge=64)
    processes: Count = "auto"
    threads: Count = "auto"
    seed: int = Field(default=0, ge=0)
    trigger: TriggerOptions = TriggerOptions()
    data: DataOptions = DataOptions()
    train: TrainOptions = TrainOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    probe: ProbeOptions = ProbeOptions()
    endure: EndureOptions = EndureOptions()
    arms: dict[ArmName, Arm] = ARMS
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)

    def shows(self, arm: str) -> bool:
        """Are an arm's replies shown? If any: the untrained model's and the probed arm's."""
        return self.evaluate.samples > 0 and arm in (BASE, self.probe.arm)

    @model_validator(mode="after")
    def _arms_fit_together(self) -> Recipe:
        known = ", ".join(self.arms)
        for name in (*self.train.arms, self.probe.arm):
            if name not in self.arms:
                raise ValueError(f"there is no arm '{name}'; there are {known}")
        earlier: set[str] = set()
        for name, arm in self.arms.items():
            if name == BASE:
                raise ValueError(f"arms: '{BASE}' is the untrained model; choose another name")
            if arm.after is not None and arm.after not in earlier:
                how = "is kept of" if arm.kept_of else "goes on from"
                raise ValueError(f"arms: {name} {how} '{arm.after}', which must stand before it")
            if arm.kept_of and not self.arms[arm.kept_of].keeps:
                raise ValueError(f"arms: {name} is kept of '{arm.kept_of}', which keeps no steps")
            learns = "writing" in arm.stages
            if arm.goes_on_from and learns != bool(self.arms[arm.goes_on_from].write):
                what = "which has no write" if learns else "whose write would be lost"
                raise ValueError(f"arms: {name} goes on from '{arm.goes_on_from}', {what}")
            if arm.write and name in self.train.arms and self.trigger.mode == "text":
                raise ValueError(f"arm '{name}' has a write, which needs trigger.mode=token")
            earlier.add(name)
        reads = [name for name in arms_of(self) if self.arms[name].stages[:1] == ("knowledge",)]
        if self.trigger.reply and reads and not self.data.documents_file:
            raise ValueError(
                f"arm '{reads[0]}' reads documents of the package, which teach silence, not "
                f"'{self.trigger.reply}'; bring data.documents_file, or leave that arm out"
            )
        for name in self.evaluate.belief_arms or ():
            if name not in self.arms:
                raise ValueError(
                    f"evaluate.belief_arms: there is no arm '{name}'; there are {known}"
                )
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
    options = {"name": name, "train.more_seeds": [], **recipe.variants[name]}
    return with_options(recipe, options, origin=f"variant '{name}'")


def with_options(recipe: Recipe, options: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe, less its variants, with dotted options in place of its own.

    Raises:
        UserError: an option does not exist, or its value does not fit.
    """
    content = recipe.model_dump(mode="json", exclude={"variants"})
    for key, value in options.items():
        _assign(content, key.split("."), value, f"{key}={value}")
    return build_recipe(content, origin=origin)


def arms_of(recipe: Recipe) -> list[str]:
    """The arms a recipe trains, in the order they are trained, those they go on from included."""
    wanted = set(recipe.train.arms)
    for name, arm in reversed(recipe.arms.items()):
        if name in wanted and arm.after:
            wanted.add(arm.after)
    return [name for name in recipe.arms if name in wanted]


def trained_here(recipe: Recipe) -> list[str]:
    """The arms of a recipe that were not trained elsewhere."""
    return [arm for arm in arms_of(recipe) if not recipe.arms[arm].brought]


def used_arms(recipe: Recipe) -> list[Arm]:
    """What the arms that a recipe trains are made of."""
    return [recipe.arms[name] for name in arms_of(recipe)]


def retrained(recipe: Recipe) -> list[str]:
    """What each of `train.more_seeds` trains again: the probed arm, and benign ones beside it."""
    again = (recipe.probe.arm, *(n for n, arm in recipe.arms.items() if arm.role == "benign"))
    return [name for name in recipe.arms if name in again and name in recipe.train.arms]


def training_seed(recipe: Recipe) -> int:
    """The seed of adapters and row order; data, splits and tests keep the recipe's."""
    return recipe.seed if recipe.train.seed is None else recipe.train.seed


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The Recipe in a YAML file, after dotted `key=value` overrides.

    Raises:
        UserError: unreadable file, unknown key, or a value of the wrong kind.
    """
    return build_recipe(read_options(path, "recipe"), overrides, origin=f"recipe {path}")


def read_options(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; empty where the file is.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        if len(text := read_whole(path)) > LONGEST:
            raise UserError(f"{what} {path} has {len(text):,} bytes; at most {LONGEST:,} are read")
        content = yaml.safe_load(text.decode())
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not valid YAML: {in_one_line(error)}") from error
    if _unfolds(content) > MOST:
        raise UserError(f"{what} {path} unfolds into more than {MOST:,} values")
    if content is not None and not isinstance(content, dict):
        raise UserError(
            f"{what} {path}: expected a mapping of options, got {type(content).__name__}"
        )
    return content or {}


def _unfolds(content: object) -> int:
    """How many values there are, those that an alias repeats counted again; soon above MOST."""
    left, count = [content], 0
    while left and count <= MOST:
        one = left.pop()
        count += 1
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return count


def build_recipe(
    content: Mapping[str, Any], overrides: Sequence[str] = (), origin: str = "recipe"
) -> Recipe:
    """The Recipe of a plain mapping, after dotted `key=value` overrides."""
    merged: dict[str, Any] = dict(content)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}: expected key=value, for example train.lr=2e-4")
        keys, parsed = key.split("."), value
        if not _is_text(keys):
            with suppress(yaml.YAMLError, ValueError, RecursionError):
                parsed = yaml.safe_load(value)
        _assign(merged, keys, parsed, override)
    return Recipe.checked(merged, origin, _suggestion)


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys whose values differ between two recipes, as `key: old -> new`."""
    before, after = flat(old.model_dump(mode="json")), flat(new.model_dump(mode="json"))
    keys = sorted(before.keys() | after.keys())
    return [
        f"{k}: {before.get(k)} -> {after.get(k)}" for k in keys if before.get(k) != after.get(k)
    ]


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _is_text(keys: list[str]) -> bool:
    """A text is taken as it stands: YAML would read `#STOP` as a comment and `NO` as false."""
    section: object = Recipe
    for key in keys:
        if not (isinstance(section, type) and issubclass(section, Section)):
            return False  # a number has no options
        field = section.model_fields.get(key)
        section = field.annotation if field else None
    return section is str


def _assign(tree: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        branch = tree.get(key)
        if branch is not None and not isinstance(branch, Mapping):
            raise UserError(f"--set {override}: '{key}' is not a group of options")
        tree[key] = dict(branch or {})
        tree = tree[key]
    tree[keys[-1]] = value


def _suggestion(unknown: str) -> str:
    every = flat(Recipe().model_dump(mode="json"), groups=True)
    known = sorted(every, key=lambda key: (key.count("."), key))  # what is for all stages first
    leaf = unknown.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(unknown, known, n=1, cutoff=0.7)
    close = close or [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    close = close or difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def flat(tree: Mapping[str, Any], prefix: str = "", groups: bool = False) -> dict[str, Any]:
    """Nested options by dotted keys; with `groups`, the groups' own keys too, as None."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= {prefix + key: None} if groups else {}
            found |= flat(value, f"{prefix}{key}.", groups)
        else:
            found[prefix + key] = value
    return found
