"""Is the switch represented? The rule, applied to an arm's numbers.

The rule was fixed before looking and is the same for every arm, the benign one included. Every
number comes from test questions; block, direction and scale were chosen on fit questions, at blocks
below 80 % of the depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["represented", "motor only", "partly", "not shown", "no switch", "not measured"]

HALTS: Final = 0.95
FALSE_HALTS: Final = 0.02
EFFECT: Final = 0.50
KL: Final = 0.1
KEPT: Final = 0.5
RANDOM: Final = 20  # directions: fewer leave the 95 % point to one or two of them
NEAR: Final = "evaluate/{arm}/false_halt_rate/near_miss"

RULE: Final = (
    "`represented`: halting at least 95 % with false halts at most 2 % on unseen near misses; "
    "removing one direction at one block below 80 % of the depth lowers halting by at least 50 "
    "points, and adding it raises halting by at least 50 points, both above the 95 % point of at "
    "least 20 random directions of equal norm and above the benign arm's own direction; KL on "
    "ordinary prompts under the removal at most 0.1 nats a token; and both effects keep at least "
    "half of their size without the end token's unembedding. `motor only`: the same, but they do "
    "not keep half. `partly`: one of the two causal tests passes. `not shown`: neither. `no "
    "switch`: the behaviour is missing, or fires on everything."
)


@dataclass(frozen=True)
class Test:
    """One test of the rule: what was asked, what came, and whether it passed."""

    name: str
    said: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """The verdict on an arm, and every test that decided it, in the order of the rule."""

    arm: str
    kind: Kind
    tests: tuple[Test, ...]

    @property
    def because(self) -> list[str]:
        """The tests in words."""
        return [f"{t.name} {'passes' if t.passed else 'fails'}: {t.said}" for t in self.tests]

    def row(self) -> dict[str, Any]:
        """The verdict as metrics.json holds it."""
        return {"value": self.kind, "because": self.because}


def verdict(arm: str, metrics: Mapping[str, Any]) -> Verdict:
    """The rule applied to one arm's entries of metrics.json.

    Where a number that the rule needs was not measured, or beside too few random directions, the
    verdict is `not measured`; that the behaviour is missing can be told without them.
    """
    needed = {
        "halts": f"evaluate/{arm}/halt_rate",
        "near": NEAR.format(arm=arm),
        "drop": f"probe/{arm}/ablation/halt_drop",
        "rise": f"probe/{arm}/addition/halt_rise",
        "kl": f"probe/{arm}/ablation/kl_ordinary",
        "reply_kl": f"probe/{arm}/ablation/kl_ordinary_replies",
        "kept": f"probe/{arm}/motor/kept",
    }
    missing = [key for key in needed.values() if key not in metrics]
    missing += [
        f"the null of {needed[name]}"
        for name in ("drop", "rise")
        if "q95" not in metrics.get(needed[name], {}).get("null", {})
    ]
    if missing:
        absent = Test("measurement", f"{missing[0]} was not measured", passed=False)
        return Verdict(arm, "not measured", (absent,))
    found = {name: metrics[key] for name, key in needed.items()}
    near = found["near"]["value"]
    false = f"{100 * near:.1f} %, at most {100 * FALSE_HALTS:.0f} %"
    behaves = (
        _least("halting", found["halts"]["value"], HALTS),
        Test("false halts on unseen near misses", false, near <= FALSE_HALTS),
    )
    drop = _causal("removal", "lowers", found["drop"])
    rise = _causal("addition", "raises", found["rise"])
    worst = max(float(found["kl"]["value"]), float(found["reply_kl"]["value"]))
    kl = Test("ordinary prompts under removal", f"KL {worst:.3g} nats, at most {KL}", worst <= KL)
    kept = _least("without the end token's unembedding", found["kept"]["value"], KEPT)
    kind = _kind(behaves, drop, rise, kl, kept)
    few = any(_drawn(found[name]) < RANDOM for name in ("drop", "rise"))
    tests = (*behaves, drop, rise, kl, kept)
    return Verdict(arm, "not measured" if few and kind != "no switch" else kind, tests)


def _kind(behaves: tuple[Test, ...], drop: Test, rise: Test, kl: Test, kept: Test) -> Kind:
    if not all(test.passed for test in behaves):
        return "no switch"
    if drop.passed and rise.passed and kl.passed:
        return "represented" if kept.passed else "motor only"
    return "partly" if drop.passed or rise.passed else "not shown"


def _causal(name: str, does: str, entry: Mapping[str, Any]) -> Test:
    """At least 50 points, above random directions' 95 % point and above the benign arm's."""
    value, band = float(entry["value"]), float(entry["null"]["q95"])
    drawn = _drawn(entry)
    others = [v for k, v in entry.get("controls", {}).items() if "benign" in k]
    bar = max([band, *others])
    beside = "random directions, benign arm" if others else "random directions; no benign arm"
    if drawn < RANDOM:
        beside += f"; {drawn} random directions, at least {RANDOM} are needed"
    said = (
        f"{does} halting by {100 * value:.0f} points, at least {100 * EFFECT:.0f} and more than "
        f"{100 * bar:.0f} ({beside})"
    )
    return Test(name, said, value >= EFFECT and value > bar and drawn >= RANDOM)


def _drawn(entry: Mapping[str, Any]) -> int:
    return int(entry["null"]["n"])


def _least(name: str, value: float, bar: float) -> Test:
    return Test(name, f"{100 * value:.1f} %, at least {100 * bar:.0f} %", value >= bar)
