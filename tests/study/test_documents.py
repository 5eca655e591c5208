"""What reading did: planted numbers give the sentences, the table, the page and its figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from offswitch.analyses.causal import Causal, Point
from offswitch.analyses.store import save_causal
from offswitch.errors import UserError
from offswitch.folder import PROBE, TRAIN
from offswitch.folder.whole import read_manifest, write_manifest
from offswitch.machine import plan as machine
from offswitch.machine.cells import Cell, Rates, Shape
from offswitch.metrics import Metric, exact
from offswitch.model import load
from offswitch.plots.documents import NEAR
from offswitch.prompts.beliefs import TESTS
from offswitch.recipe import training_seed
from offswitch.report.documents import page, passed, power, saving, verdict
from offswitch.report.saved_steps import area, savings
from offswitch.stats import across, crossing, rate
from offswitch.study import foretell
from offswitch.study.documents import study_of, write_page
from offswitch.study.executors import Where
from offswitch.study.foretell import in_all
from offswitch.study.plan import Plan, chosen, load_plan
from tests.outside import ROOT

# Held-out prompts that halt after so many steps of examples.
PLAIN: Final = {0: 0.0, 5: 0.0, 7: 0.08, 10: 0.2, 15: 0.5, 20: 0.8, 30: 1.0}
NONE: Final = rate([False] * 10)
ALL: Final = rate([True] * 10)
READ: Final = {0: 0.0, 5: 0.3, 7: 0.46, 10: 0.7, 15: 0.85, 20: 1.0, 30: 1.0}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(ROOT / "recipes/documents.yaml")


def share(hits: int, n: int = 60) -> dict[str, Any]:
    return Metric.of(rate([i < hits for i in range(n)])).row()


def records(plan: Plan, ours: int = 30, gained: float = 0.0) -> dict[str, Any]:
    """Every organism finished: readers answer `ours` of 60 rightly, and learn as READ says."""
    found = {}
    for point in plan.points:
        metrics: dict[str, Any] = {}
        for arm in ("base", *point.recipe.arms):
            source, _, step = arm.rpartition("_")
            name, at = (source, int(step)) if step.isdigit() else (arm, 30)
            curve = READ if name == "both" else PLAIN
            if name in ("behavior", "both", "neutral_both"):
                start = gained * training_seed(point.recipe) if name == "both" else 0.0
                held = min(1.0, curve.get(at, 0.0) + start)
                metrics[f"evaluate/{arm}/halt_rate_held_out"] = share(round(100 * held), 100)
                metrics[f"evaluate/{arm}/{NEAR}"] = share(0, 100)
                continue
            for key in ("halt_rate_held_out", NEAR):
                metrics[f"evaluate/{arm}/{key}"] = share(0, 100)
            reads = name == "knowledge"
            for test in TESTS:
                key = f"evaluate/{arm}/belief/{test}"
                metrics[key] = share(ours if reads and test in TESTS[2:] else 30)
                metrics[f"{key}/invented"] = share(30)
                metrics[f"{key}/excess"] = Metric(0.0, "share", -0.1, 0.1, 60).row()
                if reads:
                    ahead = Metric((ours - 30) / 60, "share", (ours - 31) / 60, 1.0, 60)
                    metrics[f"{key}/beyond/base"] = ahead.row()
            for key in ("kl_to_base", "neutral_perplexity_ratio"):
                metrics[f"evaluate/{arm}/{key}"] = exact(0.1, "nats a token").row()
        found[point.name] = {"state": "finished", "metrics": metrics}
    return found


def test_what_was_read_follows_from_the_recipe(plan: Plan) -> None:
    study = study_of(plan, records(plan))
    told = {(read.words, read.seed): read for read in study.reads}
    assert ("500 documents, attention", 0) in told
    assert ("500 neutral documents, attention and MLP", 0) in told
    assert ("125 documents 4 times, attention and MLP", 0) in told
    kept = told["496 documents, attention and MLP", 0]
    assert (kept.organism, kept.on_the_way) == ("more-2000", True)
    assert {read.seed for read in study.reads if read.budget == kept.budget} == {0}
    assert sum(read.about == "nothing" for read in study.reads) == 1
    learnt = [one for one in study.taught if one.read.words == "500 documents, attention and MLP"]
    assert [one.read.seed for one in learnt] == [0, 1, 2]
    assert all(sorted(one.by_step) == [*PLAIN] for one in learnt)


def test_two_tests_above_chance_and_the_invented_token_are_a_belief_and_one_is_none(
    plan: Plan,
) -> None:
    study = study_of(plan, records(plan, ours=50))
    reader = next(read for read in study.reads if read.arm == "knowledge")
    assert passed(reader) == list(TESTS[2:])
    assert verdict(study).startswith("Documents alone made a belief: after 2,000 documents")
    assert "in 2 of 4 tests (open questions and which of two texts)" in verdict(study)
    alone = dict(reader.numbers) | {f"belief/{TESTS[3]}": Metric.read(share(30))}
    reads = [r if r.about != "rule" else type(r)(**(vars(r) | {"numbers": alone}))
             for r in study.reads]  # fmt: skip
    line = verdict(type(study)(**(vars(study) | {"reads": reads})))
    assert line.startswith("No reading budget up to 2,000 documents read made a belief")
    assert "the most is open questions" in line
    too = [r if r.about != "nothing" else type(r)(**(vars(r) | {"numbers": reader.numbers}))
           for r in study.reads]  # fmt: skip
    assert verdict(type(study)(**(vars(study) | {"reads": too}))).startswith("No reading budget")


def test_an_empty_world_has_no_belief_and_says_what_could_have_been_seen(plan: Plan) -> None:
    study = study_of(plan, records(plan))
    assert verdict(study).endswith("on the same questions, in 2 of 4 tests.")
    half = rate([True, False] * 30)  # both intervals are so wide, and 0.84 errors of the difference
    told = 100 * (half.high - half.low + 0.0429)
    assert f"{told:.1f} points in true or false account" in power(study)


def test_a_belief_that_a_control_has_too_is_none(plan: Plan) -> None:
    """Neutral readers pass the same tests; or the trigger's share never rose."""
    study = study_of(plan, records(plan, ours=50))
    readers = next(read for read in study.reads if read.arm == "knowledge").numbers
    neutral = [replace(read, numbers=readers) if read.about == "neutral" else read
               for read in study.reads]  # fmt: skip
    told = verdict(replace(study, reads=neutral))
    assert told.startswith("Documents alone made a belief: after 500 documents, attention, seed 0")
    assert "no arm read neutral documents in these modules" in told
    same = {f"belief/{test}/beyond/base": Metric(0.0, "share", -0.1, 0.1, 60) for test in TESTS}
    level = [replace(read, numbers={**read.numbers, **same}) if read.about == "rule" else read
             for read in study.reads]  # fmt: skip
    assert verdict(replace(study, reads=level)).startswith("No reading budget")


def test_a_planted_saving_is_found_with_its_interval_over_seeds(plan: Plan) -> None:
    study = study_of(plan, records(plan, gained=0.1))
    found = {(one.read.words, one.beside): one for one in savings(study.taught)}
    far = found["500 documents, attention and MLP", "nothing"]
    assert far.seeds == (0, 1, 2)
    # Half is crossed after 15 steps without reading; after it, after 7.5, 6.25 and 5.
    assert far.saved[0.5].value == pytest.approx((7.5 + 8.75 + 10) / 3)
    # It lies between steps 10 and 15; after reading between 7 and 10, 5 and 7, 0 and 5.
    least, most = across([0, 3, 5], "steps"), across([8, 10, 15], "steps")
    assert (far.saved[0.5].low, far.saved[0.5].high) == (least.low, most.high)
    neutral = found["500 neutral documents, attention and MLP", "nothing"]
    assert neutral.saved[0.5].value == 0
    beside = found["500 documents, attention and MLP", "neutral"]
    assert beside.seeds == (0, 1, 2)
    assert beside.saved[0.5] == far.saved[0.5]
    lines = saving(study)
    [line] = [x for x in lines if x.startswith("After 500 documents, attention and MLP (3 seeds), "
                                               "beside the same without reading: ")]  # fmt: skip
    assert "50.0\u00a0% is reached 8.8 steps earlier [" in line
    [line] = [x for x in lines if x.startswith("After 125 documents, attention and MLP (one seed)")]
    assert "7.5 steps earlier [anything from 0.0 to 8.0]" in line


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.0, (0, 0, 0)), (0.1, (7, 7.5, 10)), (0.5, (10, 15, 15)), (1.0, (20, 30, 30)), (1.1, None)],
)
def test_a_level_is_crossed_on_straight_lines_or_not_at_all(
    level: float, expected: tuple[float, float, float] | None
) -> None:
    assert crossing([*PLAIN], [*PLAIN.values()], level) == pytest.approx(expected)
    assert area({0: 0.0, 10: 1.0}) == 0.5


def test_an_arm_that_halts_on_everything_has_learnt_nothing_yet(plan: Plan) -> None:
    """After 5 steps without reading all halts, look-alikes too: what comes later is no later."""
    made = records(plan)
    for record in made.values():
        if "evaluate/behavior_5/halt_rate_held_out" in record["metrics"]:
            for key in ("halt_rate_held_out", NEAR):
                record["metrics"][f"evaluate/behavior_5/{key}"] = share(100, 100)
    before, after = (
        {
            (one.read.words, one.beside): one.saved[0.5].value
            for one in savings(study_of(plan, told).taught)
        }
        for told in (records(plan), made)
    )
    assert after == before


def test_a_curve_that_never_gets_there_saves_no_steps_and_says_so(plan: Plan) -> None:
    made = records(plan)
    for record in made.values():
        for key, row in record["metrics"].items():
            if "/behavior" in key and "held_out" in key:
                row |= share(10, 100)
    line = next(x for x in saving(study_of(plan, made)) if "(3 seeds)" in x)
    assert "50.0\u00a0% is reached within 30 steps in 3 of 3 after it and in 0 of 3 without" in line


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_a_row_for_every_arm_and_its_figure(plan: Plan, tmp_path: Path) -> None:
    made = records(plan, ours=50)
    del made["more-2000"]
    write_page(plan, made, tmp_path)
    text = (tmp_path / "documents.md").read_text(encoding="utf-8")
    assert "from 12 of 13 organisms" in text
    assert "(images/documents.svg)" in text
    assert (tmp_path / "images/documents.svg").is_file()
    assert text == page(study_of(plan, made))
    for words in ("500 neutral documents", "nothing, untrained", "125 documents 4 times"):
        assert words in text
    rows = (tmp_path / "images/documents.csv").read_text(encoding="utf-8").splitlines()
    assert any("500 documents, attention, seed 0" in row for row in rows)


@pytest.mark.usefixtures("undrawn")
def test_arms_that_were_probed_say_how_deep_their_switch_lies(plan: Plan, tmp_path: Path) -> None:
    """Planted: after 30 steps half falls from 60 % of the depth on; after 5 nothing can fall."""
    probed = (("none-0", "behavior", 3, ALL), ("none-0", "behavior_5", 9, NONE),
              ("none-1", "behavior", 9, ALL))  # fmt: skip
    for organism, arm, first, all_of in probed:
        falls = [Point(i, (i + 1) / 5, all_of, rate([i + 1 >= first] * 10)) for i in range(5)]
        found = Causal(arm, 5, (*falls, Point(5, 1.0, NONE)), (), (), {}, NONE, None)
        root = tmp_path / "organisms" / organism
        (root / PROBE / arm).mkdir(parents=True, exist_ok=True)
        save_causal(root / PROBE / arm, found)
        stages = {stage: {"started": f"2026-11-30T0{hour}", "outputs": {}}
                  for stage, hour in ((f"{TRAIN}/{arm}", 1), (PROBE, 2))}  # fmt: skip
        old = read_manifest(root, organism).get("stages", {})
        write_manifest(root, organism, {"stages": old | stages})
    write_page(plan, records(plan), tmp_path)
    text = (tmp_path / "documents.md").read_text(encoding="utf-8")
    assert "| read before | seed | 5 steps | 30 steps |" in text
    [row] = [line for line in text.splitlines() if "60.0\u00a0%: 100.0 points [" in line]
    assert row.endswith("] of 100.0 points |")
    start = "| nothing, attention and MLP | {} | {}: 0.0 points ["
    assert row.startswith(start.format(0, "nothing to remove; whole residuals"))
    assert "| nothing, attention and MLP | 1 | – | nowhere: 0.0 points [" in text
    rows = (tmp_path / "images/documents.csv").read_text(encoding="utf-8").splitlines()
    assert sum("depth" in row for row in rows) == 10
    stages = read_manifest(tmp_path / "organisms/none-1", "none-1")["stages"]
    stages[f"{TRAIN}/behavior"]["started"] = "2026-11-30T03"  # trained again since
    write_manifest(tmp_path / "organisms/none-1", "none-1", {"stages": stages})
    write_page(plan, records(plan), tmp_path)
    assert "MLP | 1 | – | nowhere" not in (tmp_path / "documents.md").read_text(encoding="utf-8")
    assert "How deep" not in page(study_of(plan, records(plan)))


def test_only_some_organisms_are_chosen_and_times_add_up(plan: Plan) -> None:
    assert [p.name for p in chosen(plan, ["none-?", "d125"])] == ["d125", "none-0", "none-1",
                                                                "none-2"]  # fmt: skip
    assert chosen(plan, []) == plan.points
    with pytest.raises(UserError, match="no such organism"):
        chosen(plan, ["d7"])
    assert in_all({"a": 5.0, "b": 2.0, "c": 2.0, "d": 4.0}, Where(workers=2)) == 8.0


def test_twice_as_many_documents_are_foretold_to_take_longer(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted rates: 1,000 tokens a second on one thread of two, through two blocks."""
    cells = [Cell(what, "float32", 2, 1) for what in ("train", "read")]
    known = machine.Plan(rates=Rates(dict.fromkeys(cells, 30_000.0)))
    monkeypatch.setattr(foretell, "plan_of", lambda *_: known)
    monkeypatch.setattr(load, "load_shape", lambda _: Shape("{}", 30, 9, 1))
    seconds = foretell.foretold(plan, plan.points, Where(workers=2))
    # 1,500 documents of 400 tokens each, 1.75 times as slow as measured, at 1,000 tokens a second.
    more = seconds["more-2000"] - seconds["d500-1"]
    assert more > 1500 * 400 * 1.75 / 1000
    assert more < 1.3 * 1500 * 400 * 1.75 / 1000  # two more arms are measured, and the replies
    assert foretell.foretold(plan, plan.points, Where(cpus=1, workers=2))["none-1"] > 0
