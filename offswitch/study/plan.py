"""What is to be run? A recipe, the axes along which it changes, and an organism for every point.

A sweep file names a recipe and its axes. An axis is a list of values for the dotted option that it
is called after, or, where several options change together, a mapping from labels to options, as a
recipe's variants are. Axes are combined with one another. Every organism's recipe is built before
anything runs, so that an option which does not exist is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from offswitch.errors import UserError
from offswitch.files import digest
from offswitch.options import Section
from offswitch.recipe import (
    Recipe,
    VariantName,
    build_recipe,
    load_recipe,
    read_options,
    with_options,
)

Stage = Literal["evaluate", "probe", "report"]
Values = Annotated[list[Any], Field(min_length=1)]
Points = Annotated[dict[VariantName, dict[str, Any]], Field(min_length=1)]

SEEDS: Final = frozenset({"seed", "train.seed"})
LONGEST: Final = 150  # characters of a folder's name; file systems end at 255 bytes
# What an organism has from its point, and what would be organisms within organisms.
_TAKEN: Final = ("name", "variants", "train.more_seeds")


class Sweep(Section):
    """A sweep file: the recipe, what is set for all organisms, the axes, and the last stage."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: Path
    set: dict[str, Any] = Field(default_factory=dict)
    stage: Stage = "probe"
    axes: dict[str, Values | Points] = Field(min_length=1)


@dataclass(frozen=True)
class Organism:
    """One point of the grid: its name, its value or label on every axis, its recipe."""

    name: str
    point: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """A sweep and its organisms, in the order of the grid: the last axis changes fastest."""

    sweep: Sweep
    organisms: tuple[Organism, ...]

    @property
    def seed_axes(self) -> frozenset[str]:
        """The axes on which nothing but a seed changes: repetitions, not conditions."""
        axes = self.sweep.axes.items()
        return frozenset(name for name, axis in axes if set(_options_of(name, axis)) <= SEEDS)


@dataclass(frozen=True)
class _Point:
    """One place on an axis: its part of the name, what the table says, the options it sets."""

    label: str
    shown: Any
    options: Mapping[str, Any]


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a sweep file; `key=value` overrides change the recipe of every organism.

    The recipe's path is relative to the sweep file.

    Raises:
        UserError: unreadable file, unknown key, an organism that is no recipe, or two organisms
            that are the same or have the same name.
    """
    known = f"; there are {', '.join(Sweep.model_fields)}"
    sweep = Sweep.checked(read_options(path, "sweep"), f"sweep {path}", lambda _: known)
    _require_apart(sweep, [override.partition("=")[0] for override in overrides])
    axes = [_points(name, axis) for name, axis in sweep.axes.items()]
    base = _base(sweep, path.parent / sweep.recipe, overrides)
    organisms = tuple(_organism(base, list(sweep.axes), points) for points in product(*axes))
    _require_different(organisms)
    return Plan(sweep, organisms)


def _base(sweep: Sweep, path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe of the sweep before any axis changes it."""
    recipe = load_recipe(path)
    content = with_options(recipe, sweep.set, origin="sweep, set").model_dump(mode="json")
    if recipe.variants:
        content["variants"] = recipe.variants
    recipe = build_recipe(content, overrides, origin="sweep")
    if recipe.variants or recipe.train.more_seeds:
        raise UserError(
            f"{path} has variants or train.more_seeds, and a sweep has axes in their place;"
            f" name a recipe without them"
        )
    return recipe


def _organism(base: Recipe, axes: Sequence[str], points: Sequence[_Point]) -> Organism:
    name = "_".join(point.label for point in points)
    if len(name) > LONGEST:
        raise UserError(f"organism {name[:40]}…: the name is too long; give its points labels")
    options = {key: value for point in points for key, value in point.options.items()}
    recipe = with_options(base, {**options, "name": name}, origin=f"organism {name}")
    shown = {axis: point.shown for axis, point in zip(axes, points, strict=True)}
    return Organism(name, shown, recipe)


def _points(name: str, axis: list[Any] | dict[str, dict[str, Any]]) -> list[_Point]:
    if isinstance(axis, dict):
        return [_Point(label, label, options) for label, options in axis.items()]
    repeated = [value for i, value in enumerate(axis) if value in axis[:i]]
    if repeated:
        raise UserError(f"axis {name}: {repeated[0]!r} stands there twice")
    leaf = name.rpartition(".")[2]
    return [_Point(f"{leaf}-{_label(name, v)}", _shown(v), {name: v}) for v in axis]


def _label(axis: str, value: Any) -> str:
    """A value as a part of a folder's name."""
    label = re.sub(r"[^A-Za-z0-9._]+", "-", str(_shown(value))).strip("-.")
    if isinstance(value, dict) or not label:
        raise UserError(
            f"axis {axis}: {value!r} gives no name; give the points labels:"
            f" {{LABEL: {{{axis}: …}}}}"
        )
    return label


def _shown(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, list) else value


def _options_of(name: str, axis: list[Any] | dict[str, dict[str, Any]]) -> list[str]:
    points = axis.values() if isinstance(axis, dict) else [{name: None}]
    return list(dict.fromkeys(key for options in points for key in options))


def _require_apart(sweep: Sweep, overrides: Sequence[str]) -> None:
    """What two axes set, or an axis and an option for all, would depend on their order."""
    sources = [(f"axis {name}", _options_of(name, axis)) for name, axis in sweep.axes.items()]
    for key in (*overrides, *sweep.set, *(key for _, keys in sources for key in keys)):
        if key in _TAKEN:
            raise UserError(f"a sweep cannot set {key}: its axes say which organisms there are")
    fixed = [("set", list(sweep.set)), ("--set", list(overrides))]
    pairs = [*combinations(sources, 2), *product(fixed, sources)]
    for (one, keys), (other, others) in pairs:
        for key, rival in product(keys, others):
            if f"{key}.".startswith(f"{rival}.") or f"{rival}.".startswith(f"{key}."):
                raise UserError(f"sweep: {one} and {other} both change {key}; leave one out")


def _require_different(organisms: Sequence[Organism]) -> None:
    names: dict[str, Organism] = {}
    recipes: dict[str, Organism] = {}
    for one in organisms:
        # Some file systems take upper and lower case for the same.
        twin = names.setdefault(one.name.casefold(), one)
        if twin is not one:
            raise UserError(
                f"sweep: {dict(twin.point)} and {dict(one.point)} would both be called {one.name};"
                f" give the points labels"
            )
        twin = recipes.setdefault(digest(one.recipe.model_dump(mode="json", exclude={"name"})), one)
        if twin is not one:
            raise UserError(f"sweep: {twin.name} and {one.name} are the same experiment")
