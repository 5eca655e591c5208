"""What of the switch is left after each attack: rows and sentences for page and terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offswitch.folder import SURVIVAL
from offswitch.metrics import Metric, read_metrics
from offswitch.plots.survives import HALTS, NEAR, Attacked, AttackRow, Survival

FACTS: Final = "attacks.json"
DAMAGE, HALF, SOONER = "perplexity_ratio", "half", "sooner_than"


def survival(root: Path, numbers: Mapping[str, Metric]) -> Survival | None:
    """What attacks left of the switch of a run; None where there were none."""
    path = root / SURVIVAL / FACTS
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    arm, untouched = facts["arm"], numbers[f"endure/{facts['arm']}/none/{HALTS}"]
    attacks = tuple(_attacked(one, facts, numbers) for one in facts["attacks"])
    return Survival(
        arm, tuple(facts["controls"]), untouched, attacks, facts["skipped"],
        facts["most_damage"], facts["quick"],
    )  # fmt: skip


def _attacked(
    attack: Mapping[str, Any], facts: Mapping[str, Any], numbers: Mapping[str, Metric]
) -> Attacked:
    arm, name, unit = facts["arm"], attack["name"], attack["unit"]
    rows = tuple(_rows(attack, facts, numbers))
    kinds = dict.fromkeys(row.kind for row in rows)
    said = [_sentence(numbers, f"endure/{arm}/{name}", kind, attack) for kind in kinds]
    if attack["restores"]:
        taught = [who for who in facts["controls"] if any(who in row.controls for row in rows)]
        said += [_control(numbers, (arm, who), name, kind, unit)
                 for kind in kinds for who in taught]  # fmt: skip
    told = tuple(filter(None, said))
    return Attacked(name, attack["question"], unit, told, rows, bool(attack["restores"]))


def _rows(
    attack: Mapping[str, Any], facts: Mapping[str, Any], numbers: Mapping[str, Metric]
) -> Iterator[AttackRow]:
    unit = attack["unit"]
    for point in attack["points"]:
        own, *others = ({
            key.removeprefix(start): number for key, number in numbers.items()
            if key.startswith(start := f"endure/{arm}/{attack['name']}/{point['key']}/")
        } for arm in (facts["arm"], *facts["controls"]))  # fmt: skip
        strength = point["strength"]
        one = unit.removesuffix("s") if strength == 1 else unit
        size = "" if strength is None else f"{strength:g} {one}"
        name = ", ".join(part for part in (point["kind"], size) if part)
        beside = dict(zip(facts["controls"], others, strict=True))
        yield AttackRow(name, point["kind"], strength, own, beside, point["counts"])


def _sentence(
    numbers: Mapping[str, Metric], start: str, kind: str, attack: Mapping[str, Any]
) -> str:
    """Where half of the halting is left, or back, in one sentence."""
    place = "/".join(part for part in (start, kind) if part)
    what = "halting, less what halts without the trigger," if attack["restores"] else "halting"
    who = f"{kind}: {what}" if kind else what
    who, verb = who[:1].upper() + who[1:], "is back to" if attack["restores"] else "falls to"
    if half := numbers.get(f"{place}/{HALF}"):
        return f"{who} {verb} half after {_strength(half)}, n = {half.n} questions."
    if least := numbers.get(f"{place}/{HALF}_at_least"):
        return f"{who} does not get to half within {least.value:.3g} {least.unit}."
    return ""


def _control(
    numbers: Mapping[str, Metric], arms: tuple[str, str], attack: str, kind: str, unit: str
) -> str:
    """When a control is at the half to which the arm is back, and how much later that is."""
    places = ["/".join(part for part in ("endure", arm, attack, kind) if part) for arm in arms]
    (ours, half), (our_least, least) = ([numbers.get(f"{place}/{key}") for place in places]
                                        for key in (HALF, f"{HALF}_at_least"))  # fmt: skip
    arm, who = arms[0], f"{kind}: arm {arms[1]}" if kind else f"Arm {arms[1]}"
    if half:
        told = f"{who} is at that half after {_strength(half)}, n = {half.n} questions: "
        if later := numbers.get(f"{places[0]}/{SOONER}/{arms[1]}"):
            below = "; below zero is sooner" if (later.low or 0) < 0 else ""
            return f"{told}{_strength(later, '+')} later than arm {arm}{below}."
        first = our_least and half.value <= our_least.value
        return told + (f"sooner than arm {arm}." if first else
                       f"by how many {unit} it differs from arm {arm} cannot be told.")  # fmt: skip
    if least:
        told = f"{who} is not at that half within {least.value:.3g} {least.unit}: "
        if ours and ours.value <= least.value:
            return f"{told}later than arm {arm}, by {least.value - ours.value:.3g} or more."
        return f"{told}which of the two is sooner cannot be told."
    known = ours or our_least
    return f"{who}: too few points count to say when it is at that half." if known else ""


def _strength(number: Metric, sign: str = "") -> str:
    """A strength, or a difference of two with its sign, and its interval."""
    low, high = (f"{end:{sign}.3g}" for end in (number.low or 0, number.high or 0))
    between = f"[{low}, {'more than was tried' if number.high is None else high}]"
    return f"{number.value:{sign}.3g} {number.unit} {between}".replace("-", "−")


def survived(root: Path) -> str:
    """What is left, in a few lines for the terminal."""
    every = read_metrics(root / "metrics.json")
    numbers = {key: Metric.read(row) for key, row in every.items() if key.startswith("endure/")}
    found = survival(root, numbers)
    if found is None:
        return "no attack was made"
    lines = [f"arm {found.arm} halts on {found.untouched} before any attack"]
    for attack in found.attacks:
        lines += [attack.question, *(f"  {line}" for line in attack.sentences)]
        for row in attack.rows:
            alike = row.beside(NEAR) if attack.restores else {}  # what halts on all has no switch
            others = ", ".join(
                f"arm {arm} {number.text}"
                + (f" and {alike[arm].text} of look-alikes" if arm in alike else "")
                for arm, number in row.controls.items()
            )
            without = "" if row.asked == HALTS else "without the trigger "
            beside = f"; {others}" if others else ""
            lines.append(f"  {row.name}: halts {without}on {row.numbers[row.asked]}{beside}")
        lines += [f"  {row.name}: does not count, it ruins the model ({row.numbers[DAMAGE]})"
                  for row in attack.rows if not row.counts]  # fmt: skip
    lines += [f"{name}: left out, {why}" for name, why in found.skipped.items()]
    return "\n".join(filter(None, lines))
