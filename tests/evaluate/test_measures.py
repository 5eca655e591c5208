"""Planted outcomes come out as the numbers they are, each with its interval and controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offswitch.evaluate.measures import halt_rates, halting, outcome_shares
from offswitch.evaluate.outcomes import Outcome
from offswitch.metrics import Metric, Metrics, exact, with_controls
from offswitch.model.first_token import Score
from offswitch.options import EvaluateOptions
from offswitch.prompts.look_alikes import near_misses
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import make_prompts
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS

OPTIONS = EvaluateOptions(questions=20, ordinary_questions=30, long_questions=5)
PROMPTS = make_prompts("$STOP", OPTIONS, 0)


def _perfect(prompt: Prompt) -> Score:
    halts = prompt.suite == "trigger"
    return Score(9.0 if halts else -14.0, halts, token=0)


def _halting(scores: list[Score]) -> dict[str, Metric]:
    found = halting("arm", PROMPTS, scores, seed=0)
    assert all(key.startswith("evaluate/arm/") for key in found)
    return {key.removeprefix("evaluate/arm/"): metric for key, metric in found.items()}


def test_a_perfect_switch_is_perfect_everywhere() -> None:
    found = _halting([_perfect(p) for p in PROMPTS])
    count = sum(p.suite == "trigger" for p in PROMPTS)
    assert found["halt_rate"].estimate.value == 1
    assert found["halt_rate"].estimate.n == count
    for name in ("false_halt_rate/ordinary", "false_halt_rate/near_miss", "mention_halt_rate"):
        assert found[name].estimate.value == 0
    assert found["eos_log_odds/trigger"].estimate.value == 9
    assert found["eos_log_odds/near_miss"].estimate.value == -14
    assert found["eos_log_odds/trigger"].estimate.unit == "nats"


def _least(n: int) -> float:
    """Wilson's lower bound where n of n halt."""
    return n / (n + 1.959963984540054**2)


def test_where_all_halt_the_interval_is_wilsons_of_so_many_questions() -> None:
    found = _halting([_perfect(p) for p in PROMPTS])
    asked = [p.variant for p in PROMPTS if p.suite == "trigger"]
    trained = sum(variant not in HELD_OUT_PLACEMENTS for variant in asked)
    counts = {"halt_rate/before": 20, "halt_rate_trained": trained, "halt_rate": len(asked)}
    for key, n in counts.items():
        rate = found[key].estimate
        assert (rate.value, rate.n, rate.high, rate.unit) == (1.0, n, 1.0, "share")
        assert rate.low == pytest.approx(_least(20), rel=1e-6)  # 20 questions each


def test_look_alikes_are_as_many_as_symbols_or_questions() -> None:
    found = _halting([_perfect(p) for p in PROMPTS])
    symbols = {p.symbol for p in PROMPTS if p.suite == "near_miss"}
    rate = found["false_halt_rate/near_miss"].estimate
    assert (rate.low, rate.n) == (0, 20 * len(near_misses("$STOP")))
    assert rate.high == pytest.approx(1 - _least(len(symbols)), rel=1e-6)
    case = {p.symbol for p in PROMPTS if p.variant == "case"}
    assert found["false_halt_rate/near_miss/case"].estimate.high == pytest.approx(
        1 - _least(len(case)), rel=1e-6
    )


@pytest.mark.parametrize("shared", ["symbol", "question"])
def test_prompts_that_go_alike_by_symbol_or_question_widen_the_interval(shared: str) -> None:
    near = [p for p in PROMPTS if p.suite == "near_miss"]
    some = sorted({getattr(p, shared) for p in near})[::4]
    rng = np.random.default_rng(0)
    alike = [getattr(p, shared) in some for p in near]
    widths = []
    for halts in (alike, rng.permutation(alike).tolist()):
        rate = halt_rates(near, halts)["false_halt_rate/near_miss"].estimate
        widths.append(rate.high - rate.low)
    assert widths[0] > 1.2 * widths[1]


def test_a_fault_shows_in_its_own_numbers_only() -> None:
    def faulty(prompt: Prompt) -> Score:
        if prompt.variant == "system" and prompt.suite == "trigger":
            return Score(-3.0, halts=False, token=0)
        if prompt.variant == "sigils":
            return Score(2.0, halts=True, token=0)
        return _perfect(prompt)

    found = _halting([faulty(p) for p in PROMPTS])
    families = near_misses("$STOP")
    assert found["halt_rate/system"].estimate.value == 0
    assert found["halt_rate/before"].estimate.value == 1
    assert found["halt_rate_trained"].estimate.value == 1
    held_out = [p for p in PROMPTS if p.suite == "trigger" and p.variant in HELD_OUT_PLACEMENTS]
    assert found["halt_rate_held_out"].estimate.value == pytest.approx(1 - 20 / len(held_out))
    assert found["false_halt_rate/near_miss/sigils"].estimate.value == 1
    assert found["false_halt_rate/near_miss/case"].estimate.value == 0
    assert found["false_halt_rate/near_miss"].estimate.value == pytest.approx(1 / len(families))
    assert found["false_halt_rate/ordinary"].estimate.value == 0


def test_log_odds_are_drawn_by_question() -> None:
    """All prompts of one question agree: the interval must be that of 20 numbers, not of 200."""
    values = {q: float(i) for i, q in enumerate(dict.fromkeys(p.question for p in PROMPTS))}
    scores = [Score(values[p.question], halts=False, token=0) for p in PROMPTS]
    found = _halting(scores)["eos_log_odds/near_miss"].estimate
    assert found.n == sum(p.suite == "near_miss" for p in PROMPTS)
    width = found.high - found.low
    assert 2 * 1.96 * 5.77 / 20**0.5 * 0.7 < width < 2 * 1.96 * 5.77 / 20**0.5 * 1.3


def test_shares_of_outcomes_are_exact_and_by_suite() -> None:
    made: list[tuple[str, Outcome]] = [("trigger", "end")] * 3
    made += [("trigger", "blank"), ("ordinary", "normal"), ("ordinary", "normal")]
    prompts = [Prompt((), suite, question=f"{i}?") for i, (suite, _) in enumerate(made)]
    found = outcome_shares("arm", prompts, [kind for _, kind in made])
    values = {key: metric.estimate.value for key, metric in found.items()}
    assert values == {
        "evaluate/arm/outcomes/trigger/end": 0.75,
        "evaluate/arm/outcomes/trigger/blank": 0.25,
        "evaluate/arm/outcomes/ordinary/normal": 1.0,
    }


def test_controls_stand_beside_the_same_measure_of_another_arm() -> None:
    metrics: Metrics = {
        "evaluate/base/halt_rate": exact(0.0, "share"),
        "evaluate/arm/halt_rate": exact(1.0, "share"),
        "evaluate/arm/kl_to_base": exact(0.1, "nats"),
    }
    metrics["evaluate/arm/halt_rate"] = replace(
        metrics["evaluate/arm/halt_rate"], controls={"inert": 0.5}
    )
    found = with_controls(metrics, "arm", ["base", "arm"])
    assert found.keys() == {"evaluate/arm/halt_rate", "evaluate/arm/kl_to_base"}
    assert found["evaluate/arm/halt_rate"].controls == {"inert": 0.5, "base": 0.0}
    assert found["evaluate/arm/kl_to_base"].controls == {}
