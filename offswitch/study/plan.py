"""Points of a recipe along axes: further seeds, variants, or the grid of a sweep.

An axis is a list of values for the dotted option that it is called after, or, where several options
change together, a mapping from labels to options. Axes are combined with one another. Every point's
recipe is built before anything runs, so that an option which does not exist is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
    retrained,
    with_options,
)

Stage = Literal["evaluate", "probe", "report"]
Values = Annotated[list[Any], Field(min_length=1)]
Labelled = Annotated[dict[VariantName, dict[str, Any]], Field(min_length=1)]
Axis = Sequence[Any] | Mapping[str, Mapping[str, Any]]

SEEDS: Final = frozenset({"seed", "train.seed"})
LONGEST: Final = 150  # characters of a folder's name; file systems end at 255 bytes
# What an organism has from its point, and what would be organisms within organisms.
_TAKEN: Final = ("name", "variants", "train.more_seeds")


@dataclass(frozen=True)
class Point:
    """One organism to run: its name, its value or label on every axis, its recipe."""

    name: str
    place: Mapping[str, Any]
    recipe: Recipe


class Sweep(Section):
    """A sweep file: the recipe, what is set for all organisms, the axes, the last stage, a page.

    The page says what the organisms say together: `documents`, what reading did.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recipe: Path
    set: dict[str, Any] = Field(default_factory=dict)
    stage: Stage = "probe"
    page: Literal["documents"] | None = None
    axes: dict[str, Values | Labelled] = Field(min_length=1)


@dataclass(frozen=True)
class Plan:
    """A sweep and its points; `conditions` are its axes but for those that only repeat, by seed."""

    sweep: Sweep
    points: tuple[Point, ...]
    conditions: tuple[str, ...]


def points_of(base: Recipe, axes: Mapping[str, Axis]) -> tuple[Point, ...]:
    """A point for every combination of the axes' places; the last axis changes fastest.

    Raises:
        UserError: a point is no recipe, or has no name that a folder can have.
    """
    points = []
    for places in product(*(_places(name, axis) for name, axis in axes.items())):
        name = "_".join(label for label, _, _ in places)
        if len(name) > LONGEST:
            raise UserError(f"organism {name[:40]}…: the name is too long; give its points labels")
        options = {key: value for _, _, changes in places for key, value in changes.items()}
        recipe = with_options(base, {**options, "name": name}, origin=f"organism {name}")
        shown = (shown for _, shown, _ in places)
        points.append(Point(name, dict(zip(axes, shown, strict=True)), recipe))
    return tuple(points)


def seed_points(recipe: Recipe) -> tuple[Point, ...]:
    """A recipe's further training seeds, with the arms that are compared and no others."""
    if not recipe.train.more_seeds:
        return ()
    options = {"train.more_seeds": [], "train.arms": retrained(recipe)}
    base = with_options(recipe, options, origin="train.more_seeds")
    return points_of(base, {"train.seed": recipe.train.more_seeds})


def variant_points(recipe: Recipe) -> tuple[Point, ...]:
    """A recipe's variants, which train no further seeds."""
    base = with_options(recipe, {"train.more_seeds": []}, origin="variants")
    return points_of(base, {"variants": recipe.variants})


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a sweep file; `key=value` overrides change the recipe of every organism.

    The recipe's path is relative to the sweep file.

    Raises:
        UserError: unreadable file, unknown key, an organism that is no recipe, or two organisms
            that are the same or have the same name.
    """
    known = f"; there are {', '.join(Sweep.model_fields)}"
    sweep = Sweep.checked(read_options(path, "sweep"), f"sweep {path}", lambda _: known)
    options = {name: _options_of(name, axis) for name, axis in sweep.axes.items()}
    _require_apart(sweep, options, [override.partition("=")[0] for override in overrides])
    recipe = load_recipe(base := path.parent / sweep.recipe)
    if recipe.variants or recipe.train.more_seeds:
        raise UserError(
            f"{base} has variants or train.more_seeds, and a sweep has axes in their place;"
            " name a recipe without them"
        )
    content = with_options(recipe, sweep.set, origin="sweep, set").model_dump(mode="json")
    points = points_of(build_recipe(content, overrides, origin="sweep"), sweep.axes)
    _require_different(points)
    return Plan(
        sweep, points, tuple(name for name in options if not SEEDS.issuperset(options[name]))
    )


def chosen(plan: Plan, only: Sequence[str]) -> tuple[Point, ...]:
    """The organisms whose names fit one of the patterns (`none-*`); all where there is none.

    Raises:
        UserError: a pattern fits no organism.
    """
    for pattern in only:
        if not any(fnmatchcase(point.name, pattern) for point in plan.points):
            names = ", ".join(point.name for point in plan.points)
            raise UserError(f"--only {pattern}: no such organism; there are {names}")
    return tuple(
        point
        for point in plan.points
        if not only or any(fnmatchcase(point.name, pattern) for pattern in only)
    )


def _places(name: str, axis: Axis) -> list[tuple[str, Any, Mapping[str, Any]]]:
    """Each place's part of the name, what tables say of it, and the options it sets."""
    if isinstance(axis, Mapping):
        return [(label, label, options) for label, options in axis.items()]
    places: list[tuple[str, Any, Mapping[str, Any]]] = []
    for i, value in enumerate(axis):
        if value in axis[:i]:
            raise UserError(f"axis {name}: {value!r} stands there twice")
        shown = "+".join(map(str, value)) if isinstance(value, list) else value
        label = re.sub(r"[^A-Za-z0-9._]+", "-", str(shown)).strip("-.")
        if isinstance(value, dict) or not label:
            raise UserError(
                f"axis {name}: {value!r} gives no name; give the points labels:"
                f" {{LABEL: {{{name}: …}}}}"
            )
        places.append((f"{name.rpartition('.')[2]}-{label}", shown, {name: value}))
    return places


def _options_of(name: str, axis: Axis) -> list[str]:
    places = axis.values() if isinstance(axis, Mapping) else [{name: None}]
    return list(dict.fromkeys(key for options in places for key in options))


def _require_apart(
    sweep: Sweep, options: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> None:
    """What two axes set, or an axis and an option for all, would depend on their order."""
    sources = [(f"axis {name}", keys) for name, keys in options.items()]
    for key in (*overrides, *sweep.set, *(key for _, keys in sources for key in keys)):
        if key in _TAKEN:
            raise UserError(f"a sweep cannot set {key}: its axes say which organisms there are")
    fixed = [("set", [*sweep.set]), ("--set", overrides)]
    for (one, keys), (other, others) in [*combinations(sources, 2), *product(fixed, sources)]:
        for key, rival in product(keys, others):
            if f"{key}.".startswith(f"{rival}.") or f"{rival}.".startswith(f"{key}."):
                raise UserError(f"sweep: {one} and {other} both change {key}; leave one out")


def _require_different(points: Sequence[Point]) -> None:
    names: dict[str, Point] = {}
    recipes: dict[str, Point] = {}
    for point in points:
        # Some file systems take upper and lower case for the same.
        twin = names.setdefault(point.name.casefold(), point)
        if twin is not point:
            raise UserError(
                f"sweep: {dict(twin.place)} and {dict(point.place)} would both be called"
                f" {point.name}; give the points labels"
            )
        content = digest(point.recipe.model_dump(mode="json", exclude={"name"}))
        twin = recipes.setdefault(content, point)
        if twin is not point:
            raise UserError(f"sweep: {twin.name} and {point.name} are the same experiment")
