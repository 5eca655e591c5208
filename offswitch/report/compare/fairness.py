"""Is the comparison fair? Options that differ, and what must not be read as the arms' doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from offswitch.folder import DATA
from offswitch.metrics import listed
from offswitch.options import BASE
from offswitch.recipe import arms_of, flat, training_seed
from offswitch.report.compare.differences import COUNTED, keyed, same_prompts
from offswitch.report.compare.sides import Side

# How far the untouched models' log-odds may lie apart on the same prompts, in nats (median): number
# types and versions move them by hundredths, other weights by whole nats.
SAME_MODEL: Final = 0.5
# Options that decide what is asked: the numbers are then of something else.
_DRIFT: Final = ("evaluate.drift_questions", "evaluate.drift_passages", "data.reply_tokens", "seed")
_NO_MATTER: Final = ("name", "processes", "threads", "batch_tokens", "train.arms", "probe.arm",
                     "train.more_seeds", "train.report_to")  # fmt: skip


@dataclass(frozen=True)
class Option:
    """An option that is not the same everywhere, and its value in each run."""

    key: str
    values: tuple[str, ...]


def options_that_differ(sides: Sequence[Side]) -> tuple[Option, ...]:
    """The recipes' options that differ; of arms only those that are compared, as `arm.…`."""
    every = [_options(side) for side in sides]
    keys = dict.fromkeys(key for options in every for key in options)
    rows = [(key, [one.get(key) for one in every]) for key in keys]
    return tuple(
        Option(key, tuple("–" if v in (None, "") else str(v) for v in values))
        for key, values in rows
        if any(value != values[0] for value in values)
    )


def warnings(sides: Sequence[Side]) -> list[str]:
    """What makes the comparison less than fair, each in a sentence; none where nothing does."""
    first, found = sides[0], []
    for check in (_models, _weights, _triggers, _asked, _batteries, _versions):
        by_line: dict[str, list[str]] = {}
        for side in sides[1:]:
            for line in check(side, first):
                by_line.setdefault(line, []).append(f"`{side.label}`")
        found += [
            f"{listed(labels)} and `{first.label}` {line}" for line, labels in by_line.items()
        ]
    controls = [{arm: side.run.recipe.arms[arm].role for arm in arms_of(side.run.recipe)}
                for side in sides]  # fmt: skip
    if without := [f"`{side.label}`" for side, roles in zip(sides, controls, strict=True)
                   if "benign" not in roles.values()]:  # fmt: skip
        found.append(
            f"{listed(without)}: no benign control, so what any fine-tuning of this size changes "
            "cannot be told from what the rule changed"
        )
    return found


def _options(side: Side) -> Mapping[str, Any]:
    content = side.run.recipe.model_dump(mode="json", exclude={"arms", "variants"})
    own = {"arm": side.arm}
    if made := side.run.recipe.arms.get(side.arm):
        own |= flat(made.model_dump(mode="json"), "arm.")
    kept = {key: v for key, v in flat(content).items() if key not in _NO_MATTER}
    return own | kept | {"train.seed": training_seed(side.run.recipe)}


def _models(side: Side, first: Side) -> Iterator[str]:
    ours, theirs = side.run.recipe, first.run.recipe
    if ours.model != theirs.model:
        names = (name.rstrip("/").rpartition("/")[2] for name in (ours.model, theirs.model))
        yield f"have different base models ({'; '.join(names)})"
    if ours.chat_template != theirs.chat_template:
        yield "have different chat templates"


def _weights(side: Side, first: Side) -> Iterator[str]:
    """Does the untouched model answer the same prompts alike, whatever it is called?"""
    if side.run.recipe.model != first.run.recipe.model or side.run is first.run:
        return
    ours, theirs = (
        {key: row["log_odds"] for m in COUNTED for key, row in keyed(rows, m) if "log_odds" in row}
        for rows in (replace(one, arm=BASE).outcomes for one in (side, first))
    )
    apart = [abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys()]
    if apart and median(apart) > SAME_MODEL:
        yield (f"name the same base model, but untouched it answers otherwise: its log-odds lie "
               f"{median(apart):.1f} nats apart (median of {len(apart):,} prompts)")  # fmt: skip


def _triggers(side: Side, first: Side) -> Iterator[str]:
    ours, theirs = side.run.recipe.trigger, first.run.recipe.trigger
    if ours.text != theirs.text:
        yield f"have different triggers (`{ours.text}`; `{theirs.text}`), so look-alikes differ too"
    if ours.mode != theirs.mode:
        yield f"have triggers of different modes ({ours.mode}; {theirs.mode})"
    if ours.mentions != theirs.mentions:
        yield f"have different rules for mentions ({ours.mentions}; {theirs.mentions})"
    if ours.reply != theirs.reply:
        yield "halt in different ways: a fixed reply is not silence"


def _asked(side: Side, first: Side) -> Iterator[str]:
    shared, own, other = same_prompts(side, first)
    if own and other and not shared == own == other:
        yield f"were not asked the same prompts ({shared:,} in common, of {own:,} and {other:,})"
    ours, theirs = _options(side), _options(first)
    if changed := [key for key in _DRIFT if ours[key] != theirs[key]]:
        yield f"measured drift on different texts ({', '.join(changed)})"


def _batteries(side: Side, first: Side) -> Iterator[str]:
    if not (side.verdict and first.verdict):
        return
    ours, theirs = _options(side), _options(first)
    if changed := [k for k in ours if k.startswith("probe.") and ours[k] != theirs.get(k)]:
        yield f"were probed by different batteries ({', '.join(changed)}), so verdicts may differ"
    probed = [sum(kind is not None for kind in one.run.causal.values()) for one in (side, first)]
    if min(probed) and probed[0] != probed[1]:
        yield (f"have p-values adjusted over different numbers of arms ({probed[0]}; {probed[1]}), "
               "which can change a verdict")  # fmt: skip


def _versions(side: Side, first: Side) -> Iterator[str]:
    ours, theirs = (one.run.manifest.get("versions", {}) for one in (side, first))
    if changed := [k for k in ours if k in theirs and ours[k] != theirs[k]]:
        told = "; ".join(f"{key} {ours[key]}, {theirs[key]}" for key in changed)
        yield f"were made by different versions ({told})"
    machines = [one.run.manifest.get("machine", {}) for one in (side, first)]
    named = [f"{m.get('processor')}, {m.get('cores')} cores" for m in machines]
    if all(machines) and named[0] != named[1]:
        yield f"ran on different machines ({named[0]}; {named[1]}), so times cannot be compared"


def same_data(sides: Sequence[Side]) -> bool | None:
    """Were the arms trained on the same rows? None where a run does not say."""
    entries = [side.run.manifest.get("stages", {}).get(DATA, {}).get("outputs") for side in sides]
    return None if not all(entries) else all(entry == entries[0] for entry in entries)
