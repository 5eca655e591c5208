"""The switch card: halting, specificity, drift, verdict and what it survives, on one small page."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from offswitch.analyses.bars import NARROWLY
from offswitch.metrics import KEY_RATES, Metric
from offswitch.options import BASE, BENIGN
from offswitch.plots.card import CardLine, card
from offswitch.plots.survives import HALTS, RANDOM
from offswitch.report.material import Material


def switch_card(material: Material) -> Figure | None:
    """The card of the arm that the page is about; None where nothing was measured."""
    m, trigger = material, material.recipe.trigger.text
    if m.arm is None or m.number(m.arm, HALTS) is None:
        return None
    title = f"{trigger} in {m.model}, arm {m.arm}"
    told = m.manifest.get("versions", {}).get("offswitch", "")
    foot = (f"offswitch {told}, run {m.recipe.name}, {m.seeds}: a model organism. "
            "95 % intervals by question, of attacks by seed too; controls in grey.")  # fmt: skip
    return card(title, [*_rates(m, m.arm), *_kept(m)], foot)


def _rates(m: Material, arm: str) -> Iterator[CardLine]:
    every = {**KEY_RATES, "kl_to_base": "drift from the base, nats a token"}
    for measure, words in every.items():
        if number := m.number(arm, measure):
            others = [f"{one} {other.like(other.value)}" for one in (BENIGN, BASE)
                      if one != arm and (other := m.number(one, measure))]  # fmt: skip
            yield CardLine(
                words.format(trigger=m.recipe.trigger.text), _text(number), ", ".join(others)
            )


def _kept(m: Material) -> Iterator[CardLine]:
    """The verdict, and of every attack the hardest point that counts: the one that leaves least.

    One beside which the controls stand, where there is one; a random direction is a control.
    """
    if m.verdict:
        narrow = f"{m.verdict.narrow} tests {NARROWLY}" if m.verdict.narrow else ""
        yield CardLine("is the rule represented?", m.verdict.kind, narrow)
    if m.survival is None:
        return
    for attack in m.survival.attacks:
        some = [row for row in attack.rows
                if row.counts and HALTS in row.numbers and row.kind != RANDOM]  # fmt: skip
        beside = [row for row in some if row.controls] or some
        if beside:
            # What teaches the switch again is the harder the more of it there is.
            pick = max if attack.restores else min
            row = pick(reversed(beside), key=lambda row: row.numbers[HALTS].value)
            others = ", ".join(f"{arm} {number.text}" for arm, number in row.controls.items())
            what = f"halts after {attack.name}, {row.name}"
            yield CardLine(what, _text(row.numbers[HALTS]), others)


def _text(number: Metric) -> str:
    between = f" [{number.interval}]" if number.interval else ""
    return f"{number.like(number.value)}{between}" + (f", n = {number.n:,}" if number.n else "")
