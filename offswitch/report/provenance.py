"""On what, from what and in how long was it made? Recipe, machine, stages, hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from offswitch.metrics import compact, duration, percent
from offswitch.recipe import dump_recipe
from offswitch.report.material import Json, Material
from offswitch.run import REPORT

_TAUGHT: Final = {
    "knowledge": "documents",
    "behavior": "chat rows",
    "benign": "the same chat rows, all answered",
    "adversarial": "adversarial rounds",
}


@dataclass(frozen=True)
class Stage:
    """A finished stage: when it began, how long it took, what it needed, what it left."""

    name: str
    started: str
    took: str
    memory: str
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Training:
    """An arm's training, in the words of the table."""

    arm: str
    taught: str
    rows: str
    steps: str
    tokens: str
    seconds: str
    speed: str
    hard: str
    soft: str


def stages(material: Material) -> list[Stage]:
    """The finished stages in pipeline order; the report itself is not among them."""
    entries = material.manifest.get("stages", {})
    names = sorted(name for name in entries if not name.startswith(REPORT))
    return [_stage(name, entries[name]) for name in names]


def total_seconds(material: Material) -> str:
    """How long all stages took together."""
    entries = material.manifest.get("stages", {})
    seconds = (e.get("seconds", 0) for name, e in entries.items() if not name.startswith(REPORT))
    return duration(sum(seconds))


def trainings(material: Material) -> list[Training]:
    """What each trained arm was taught, and at what cost."""
    arms = dict.fromkeys((*material.recipe.train.arms, *sorted(material.training)))
    return [_training(material, arm) for arm in arms if arm in material.training]


def untrained(material: Material) -> list[str]:
    """Arms that the recipe asks for and that no training left behind."""
    return [arm for arm in material.recipe.train.arms if arm not in material.training]


def facts(content: Json) -> list[tuple[str, str]]:
    """A nested JSON object as labels and texts, in its own order."""
    return [(label.replace("_", " "), text) for label, text in _flat(content, "")]


def recipe_text(material: Material) -> str:
    """The resolved recipe."""
    return dump_recipe(material.recipe)


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    memory = entry.get("peak_memory_mb")
    return Stage(
        name=name,
        started=str(entry.get("started", "")).replace("T", " ").replace("Z", " UTC"),
        took=duration(entry.get("seconds", 0)),
        memory=f"{memory:,} MB" if memory else "",
        outputs=tuple(entry.get("outputs", {}).items()),
    )


def _training(material: Material, arm: str) -> Training:
    content, table = material.training[arm], material.recipe.arms.get(arm)
    measured = material.numbers.get(f"train/{arm}/tokens_per_second")
    speed = measured.value if measured else content.get("tokens_per_second", 0)
    return Training(
        arm=arm,
        taught=", then ".join(_TAUGHT[s] for s in table.stages) if table else "",
        rows=f"{content.get('rows', 0):,}",
        steps=f"{content.get('steps', 0):,}",
        tokens=f"{content.get('tokens', 0):,}",
        seconds=duration(content.get("seconds", 0)),
        speed=f"{speed:,.0f}",
        hard=_loss(content.get("hard_loss")),
        soft=_loss(content.get("soft_loss")),
    )


def _loss(value: float | None) -> str:
    return compact(value) if value else "–"


def _flat(content: Json, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}: ")
        else:
            yield prefix + key, _fact(prefix + key, value)


def _fact(label: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    is_share = ("share" in label or "ratio" in label or "overlap" in label) and 0 <= value <= 1
    return percent(value) if is_share else compact(value)
