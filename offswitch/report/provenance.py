"""On what, from what and in how long was it made? Training, machine, stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from offswitch.folder import REPORT
from offswitch.metrics import compact, percent
from offswitch.report.material import Json, Material

_TAUGHT: Final = {
    "knowledge": "documents",
    "neutral": "neutral documents",
    "behavior": "chat rows",
    "benign": "the same chat rows, all answered",
    "other": "the same chat rows, the trigger met with a phrase",
    "adversarial": "adversarial rounds",
    "written": "nothing; code adds to it",
    "writing": "to write by itself what code added",
}


def stages(material: Material) -> dict[str, Json]:
    """The manifest's entries of finished stages in pipeline order; the report is not among them."""
    entries = material.manifest.get("stages", {})
    return {name: entries[name] for name in sorted(entries) if not name.startswith(REPORT)}


def trainings(material: Material) -> dict[str, Json]:
    """What training left behind of each arm, in the order of the recipe."""
    arms = dict.fromkeys((*material.recipe.train.arms, *sorted(material.training)))
    return {arm: material.training[arm] for arm in arms if arm in material.training}


def taught(material: Material, arm: str) -> str:
    """What an arm was taught, in words; empty for an arm that the recipe lacks."""
    found = material.recipe.arms.get(arm)
    if found and found.brought:
        return f"elsewhere: {found.brought}"
    if found and found.kept_of:
        return f"what {found.kept_of} was after {found.step} steps"
    return ", then ".join(_TAUGHT[stage] for stage in found.stages) if found else ""


def untrained(material: Material) -> list[str]:
    """Arms that the recipe asks for, to be trained here, and that no training left behind."""
    arms = material.recipe.arms
    here = [arm for arm in material.recipe.train.arms if arms[arm].stages]
    return [arm for arm in here if arm not in material.training]


def facts(content: Json) -> list[tuple[str, str]]:
    """A nested JSON object as labels and texts, in its own order."""
    return [(label.replace("_", " "), text) for label, text in _flat(content, "")]


def _flat(content: Json, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        label = prefix + key
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label}: ")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            yield label, str(value)
        else:
            share = any(word in label for word in ("share", "ratio", "overlap")) and 0 <= value <= 1
            yield label, percent(value) if share else compact(value)
