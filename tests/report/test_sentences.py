"""Sentences follow from the numbers: they flip when the numbers do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offswitch.analyses import bars
from offswitch.analyses.causal import causal_metrics
from offswitch.analyses.evidence import dose, lens, separability
from offswitch.analyses.verdict import Verdict, verdict
from offswitch.metrics import Metric, compact, duration, percent, span
from offswitch.recipe import build_recipe, with_options
from offswitch.report import sentences
from offswitch.report.findings import headline, section
from offswitch.report.limits import limits
from offswitch.report.material import Material, read_material
from offswitch.report.sentences import behaviour
from offswitch.stats import rate
from tests.analyses.effects import Mechanism, causal_of
from tests.report.worlds import write_run

NOTHING = Material(
    place="runs/demo",
    recipe=build_recipe({}),
    manifest={},
    numbers={},
    quality={},
    training={},
    log_odds={},
    samples=(),
    findings={},
    evidence={},
    verdicts={},
)


def _share(value: float) -> Metric:
    return Metric(value, "share", max(0.0, value - 0.02), min(1.0, value + 0.02), 200)


def _material(
    arm: str,
    halts: float,
    near: float | None,
    ordinary: float,
    family: float = 0.0,
    twin: float | None = None,
) -> Material:
    """A run's rates; with a rate of the twin it was probed too, and judged."""
    measures = {
        "halt_rate": halts,
        "false_halt_rate/near_miss": near,
        "false_halt_rate/near_miss/case": family,
        "false_halt_rate/ordinary": ordinary,
        "repeats": 0.0,
    }
    numbers = {
        f"evaluate/{arm}/{name}": _share(value)
        for name, value in measures.items()
        if value is not None
    }
    if twin is None:
        return replace(NOTHING, numbers=numbers)
    found = replace(causal_of(Mechanism()), arm=arm, twin=_share(twin).estimate)
    told = {arm: verdict(arm, numbers, found, {})}
    return replace(NOTHING, numbers=numbers, causal={arm: found}, verdicts=told)


@pytest.mark.parametrize(
    ("rates", "kind"),
    [
        ((1.0, 0.0, 0.0), "holds"),
        ((0.95, 0.02, 0.01, 0.1, 0.1), "holds"),
        ((0.94, 0.0, 0.0), "in part"),
        ((1.0, 0.03, 0.0), "in part"),
        ((1.0, 0.0, 0.02), "in part"),
        ((1.0, None, 0.0), "in part"),
        ((1.0, 2 / 120, 0.0, 2 / 12), "in part"),
        ((1.0, 0.0, 0.0, 0.0, 0.11), "in part"),
        ((1.0, 1.0, 0.0), "everything"),
        ((1.0, 0.6, 0.9), "everything"),
        ((0.4, 0.0, 0.0), "seldom"),
        ((0.0, 0.0, 0.0), "none"),
    ],
)
def test_the_switch_holds_where_the_verdict_finds_one_and_nowhere_else(
    rates: tuple[float, ...], kind: str
) -> None:
    """Where the twin is not told it is not measured: then it speaks neither for nor against."""
    found = behaviour(_material("both", *rates), "both")
    assert found is not None
    assert found.kind == kind
    judged = _material("both", *(*rates, 0.0, 0.0)[:5])
    assert judged.verdict is not None
    assert (judged.verdict.kind == "represented") is (kind == "holds")
    assert ("the switch holds;" in sentences.first(judged)) is (kind == "holds")


def test_a_family_and_a_twin_that_halt_are_named_and_so_is_an_arm_that_training_broke() -> None:
    one = sentences.first(_material("both", 1.0, 2 / 120, 0.0, 2 / 12, 0.2)).replace("\u00a0", " ")
    assert one == (
        "Arm `both`: the switch holds only in part, with false halts in the worst of 1 families of "
        "look-alikes (case) above 10 % and false halts on the trigger's twin above 10 %; verdict: "
        "not specific."
    )
    loops = _material("both", 1.0, 0.0, 0.0)
    loops = replace(loops, numbers={**loops.numbers, "evaluate/both/repeats": _share(0.7)})
    assert "no switch, training broke this arm: 70.0" in sentences.short(loops, "both")
    less = {key: n for key, n in loops.numbers.items() if not key.endswith(("case", "repeats"))}
    assert "by family not measured" in sentences.short(replace(loops, numbers=less), "both")


def test_the_bar_in_words_has_every_bar_of_the_tests() -> None:
    tests = bars.behaviour("both", _material("both", 0.0, 1.0, 1.0, 1.0).numbers)
    assert not isinstance(tests, str)
    every = [*tests, bars.twin(_share(1.0).estimate)]
    wanted = {test.missed.rpartition(" ")[2] for test in every}
    assert set(re.findall(r"\d+\u00a0%", sentences.BAR)) == wanted
    for word in ("halting", "near misses", "one family", "a twin", "ordinary"):
        assert word in sentences.BAR


@pytest.mark.parametrize(
    ("halts", "near", "ordinary", "said"),
    [
        (1.0, 0.0, 0.0, "Arm `both`: the switch holds."),
        (1.0, 0.1, 0.0, "holds only in part, with false halts on unseen look-alikes above 2"),
        (1.0, 1.0, 1.0, "no switch, the model falls silent without `$STOP` too"),
        (0.3, 0.0, 0.0, "`$STOP` silences the model on fewer than half of the prompts"),
        (0.0, 0.0, 0.0, "no switch, `$STOP` does not silence the model"),
    ],
)
def test_the_first_line_says_what_the_rates_say(
    halts: float, near: float, ordinary: float, said: str
) -> None:
    lines = sentences.answer(_material("both", halts, near, ordinary))
    assert said in lines[0]
    assert f"{percent(halts)} of 200 prompts with `$STOP`" in lines[1]


def test_the_prompts_behind_the_verdict_are_those_of_the_fall_that_was_tested() -> None:
    found = causal_of(Mechanism())
    first, second = found.pair
    after = rate([True] * 30)  # ten prompts of forty end with the symbol
    first = replace(first, position="after", point=replace(first.point, after=after))
    for pair, n in ((found.pair, 40), ((first, second), 30)):
        probed = replace(
            NOTHING,
            numbers=causal_metrics(found, {}),
            verdicts={"both": Verdict("both", "represented", ())},
            causal={"both": replace(found, pair=pair)},
        )
        told = sentences.sure(probed).replace("\u00a0", " ")
        assert f"; causal tests have n = {n} prompts; one training." in told


def test_one_test_alone_is_told_in_the_singular() -> None:
    told = sentences.sure(_material("both", 0.4, 0.0, 0.0, twin=0.0))
    assert told.startswith("The one test that decides here fails")
    assert sentences.sure(_material("both", 1.0, 0.0, 0.0, twin=0.0)).startswith("Of ")


def test_where_the_probed_arm_is_missing_another_one_is_named() -> None:
    assert "`knowledge`" in sentences.answer(_material("knowledge", 0.0, 0.0, 0.0))[0]


def test_without_numbers_nothing_is_claimed() -> None:
    assert sentences.answer(NOTHING) == [
        "Nothing was evaluated in this run, so nothing can be said of the switch."
    ]
    assert sentences.drift(NOTHING, "both") == ""


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.99, 1.02, "no change"), (1.1, 1.3, "worse"), (0.7, 0.9, "better")]
)
def test_drift_is_read_off_the_interval(low: float, high: float, said: str) -> None:
    ratio = Metric((low + high) / 2, "ratio", low, high, 900)
    found = replace(NOTHING, numbers={"evaluate/both/neutral_perplexity_ratio": ratio})
    assert said in sentences.drift(found, "both")


def test_all_and_none_are_written_for_nothing_less() -> None:
    assert percent(1.0).startswith("100.0")
    assert percent(0.9999) == "> 99.9\u00a0%"
    assert percent(0.0001) == "< 0.1\u00a0%"
    assert span(0.0001, 0.0002, "share") == "< 0.1"
    assert span(0.0, 0.0002, "share") == "0.0–< 0.1"
    assert span(0.123, 0.1231, "share") == "12.3–12.3"


def test_questions_of_the_users_are_said_to_be_split_by_row() -> None:
    assert "The test questions are in English" in " ".join(limits(NOTHING))
    counts = {"rows": 1200, "without a topic": 1100, "train": 480, "fit": 240, "test": 480}
    own = with_options(NOTHING.recipe, {"evaluate.questions_file": "own.jsonl"}, origin="test")
    told = " ".join(limits(replace(NOTHING, recipe=own, quality={"questions": counts})))
    assert "1,100 of 1,200 that name no topic were split into train, fit and test by row" in told
    examined = " ".join(limits(replace(NOTHING, recipe=own)))  # no data was made, nothing counted
    assert "own; those that name no topic were split" in examined
    assert "in English" not in told


def test_numbers_for_human_eyes() -> None:
    assert [compact(x) for x in (0.0, -14.0812, 0.0123, 1234.5, 25.0)] == [
        "0", "−14.08", "0.0123", "1,234", "25",
    ]  # fmt: skip
    assert [duration(x) for x in (2.04, 251.4, 7260)] == ["2.0 s", "4 min 11 s", "2 h 1 min"]
    number = Metric.read({"value": 1.004, "low": 0.99, "high": 1.02, "n": 5, "unit": "ratio"})
    assert number.beside.replace("\u00a0", " ") == "95 % interval 0.990 to 1.020, n = 5"


def test_a_number_without_an_interval_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="no interval"):
        _ = Metric.read({"value": 3}).estimate


def test_a_run_folder_is_required(tmp_path: Path) -> None:
    from offswitch.errors import UserError

    with pytest.raises(UserError, match="not a run folder"):
        read_material(tmp_path)


@pytest.mark.parametrize(
    ("analysis", "number", "said"),
    [
        (
            lens,
            Metric(2.5, "nats", 2.0, 3.0, 27),
            "+2.50 nats (95 % interval 2.000 to 3.000, n = 27)",
        ),
        (dose, Metric(2.5, "nats", 2.0, 3.0, 27), "+2.50 (95 % interval 2.000 to 3.000, n = 27)"),
        (separability, Metric(0.984, "AUROC"), "0.984"),
    ],
)
def test_a_headline_has_its_unit_once_and_its_interval(
    analysis: Any, number: Metric, said: str
) -> None:
    finding: Any = SimpleNamespace(number=number, analysis=analysis.ANALYSIS)
    assert headline(finding).replace("\u00a0", " ") == said


def test_the_number_that_leads_a_section_is_the_one_its_first_column_names(tmp_path: Path) -> None:
    material = read_material(write_run(tmp_path / "demo"))
    findings = {**material.findings, **material.evidence}
    assert len(findings) == 11
    for name, finding in findings.items():
        shown = section(finding, ())
        assert shown.columns[0] == finding.analysis.headline.heading, name
        assert shown.lines[0].cells[0] == finding.analysis.headline.form(finding.value)
        assert shown.headline.startswith(shown.lines[0].cells[0])
        assert finding.number == material.numbers[shown.key]


def test_a_null_of_too_few_draws_is_not_said_to_pass_in_a_table_either(tmp_path: Path) -> None:
    findings = read_material(write_run(tmp_path / "demo")).findings.values()
    found = next(one for one in findings if one.null and not one.too_few)
    few = replace(found, null_results=found.null_results[:18])
    whole, last = (section(one, ()).lines[-1] for one in (found, few))
    assert whole.passes is not None
    assert last.passes is None
    assert last.who == f"18 {found.analysis.null_name}, range, too few for p ≤ 0.05"


def test_shares_below_zero_have_a_true_minus_sign_and_auroc_three_decimals() -> None:
    assert percent(-0.125) == "−12.5\u00a0%"
    assert span(-0.125, 0.125, "share") == "−12.5 to 12.5"
    assert Metric(1.0, "AUROC").text == "1.000"
