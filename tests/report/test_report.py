"""Page and summary say what the files say, also when the result is bad or a part is missing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from offswitch.analyses.analysis import Array
from offswitch.analyses.causal import LABELS
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.plots import plots
from offswitch.report.arms import across_arms
from offswitch.report.build import build_report
from offswitch.report.material import read_material
from tests.analyses.effects import Mechanism
from tests.analyses.worlds import KEYS, calm
from tests.report import worlds

ORIGINAL_FIGURES = {name for analysis in SEED_ANALYSES for name in plots(analysis.name)}
# What is said of each part that is missing; the probes' is missing in every one of these runs.
SAID = {
    "1-data": "The data stage has left no figures",
    "2-train": "No training has finished",
    "3-evaluate": "No replies were sampled",
    "4-probe": "The probe stage has not run",
    "manifest.json": "The manifest names no finished stage",
    "metrics.json": "There is no metrics.json in this run",
}


class _Loads(HTMLParser):
    """Collects what a browser would load, what it shows, and every tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def built(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run whose switch works, with its report."""
    root = tmp_path_factory.mktemp("built") / "whole"
    shutil.copytree(runs / "whole", root)
    build_report(root, root / "5-report")
    return root


def _rebuilt(root: Path) -> tuple[_Loads, str]:
    """The page and the summary of a run."""
    folder = root / "5-report"
    build_report(root, folder)
    summary = (folder / "ANALYSIS_SUMMARY.md").read_text(encoding="utf-8")
    return _page(root), summary


def _page(root: Path) -> _Loads:
    return _Loads((root / "5-report" / "report.html").read_text(encoding="utf-8"))


def _strong_world() -> dict[str, Array]:
    """A world in which the trained arm stands out, and only where the trigger stands."""
    world = calm()
    for key in KEYS[1:]:
        for arm in ("base", "both", "benign"):
            world[f"{arm}/pair/{key}"][:, 0] += 10
    world["both/pair/trigger"][:, -1] += 30
    world["both/first/trigger"][0] *= 99
    world["both/lens/trigger"][3] = 30
    world["both/neutral/plain"] += 5
    return world


def test_every_file_is_there(built: Path) -> None:
    names = {path.name for path in (built / "5-report").iterdir()}
    evidence = {f"{analysis.name}.svg" for analysis in EVIDENCE}
    figures = {
        *ORIGINAL_FIGURES, *evidence,
        "end_log_odds.svg", "ladder.svg", "ladder_small.svg", "belief.svg", "depth_both.svg",
    }  # fmt: skip
    numbers = {Path(name).with_suffix(".csv").name for name in figures}
    figures.add("switch_card.png")
    assert names == {"report.html", "ANALYSIS_SUMMARY.md", "metrics.json", *figures, *numbers}
    for name in figures:
        begins = b"<svg" if name.endswith(".svg") else b"\x89PNG"
        assert (built / "5-report" / name).read_bytes().startswith(begins)
    for name in numbers:
        lines = (built / "5-report" / name).read_text(encoding="utf-8").splitlines()
        assert lines[0] == "panel,series,x,value,low,high,n"
        assert len(lines) > 4


def test_the_page_loads_nothing_from_elsewhere(built: Path) -> None:
    page = _page(built)
    assert page.loads
    assert all(load.startswith(("data:text/csv;base64,", "#")) for load in page.loads)
    assert "script" not in page.tags
    source = (built / "5-report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)", source)  # within a figure, its own parts


def test_what_a_model_writes_is_text(built: Path) -> None:
    page = _page(built)
    assert worlds.REPLY in page.text
    assert "<script>" not in (built / "5-report" / "report.html").read_text(encoding="utf-8")


def test_every_number_is_on_the_page(built: Path) -> None:
    text = _page(built).text
    keys = json.loads((built / "metrics.json").read_text(encoding="utf-8"))
    assert keys
    assert [key for key in keys if key not in text] == []


def test_rates_stand_with_interval_and_count(built: Path) -> None:
    text = _page(built).text.replace("\u00a0", " ")
    assert "halts on $STOP100.0 %95 % interval 98.8–100.0, n = 330arm base: 0.0 %" in text
    assert "after 1,000 tokensheld out" in text.replace(" held", "held")


def test_silence_is_visible_and_the_trigger_marked(built: Path) -> None:
    source = (built / "5-report" / "report.html").read_text(encoding="utf-8")
    assert "∅ silence" in source
    assert '<mark class="trigger">$STOP</mark>' in source
    assert '<mark class="near">' in source


@pytest.mark.usefixtures("undrawn")
def test_the_same_files_give_the_same_report(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(built, root, ignore=shutil.ignore_patterns("5-report", "4-probe"))
    for name in ("a", "b"):
        build_report(root, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_control_that_passes_is_said_so_and_one_that_fails_too(
    built: Path, tmp_path: Path
) -> None:
    empty = (built / "5-report" / "ANALYSIS_SUMMARY.md").read_text(encoding="utf-8")
    assert "all 4 say nothing of the switch" in empty
    assert "Nothing else passes:" not in empty
    root = worlds.write_run(tmp_path / "strong", world=_strong_world())
    page, strong = _rebuilt(root)
    for text in (page.text, strong):
        assert "None of the original's 4 analyses is passed by a control" in text
        original = re.split("What the original['’]s four figures prove", text)[-1]
        assert "Proves nothing about the trigger" not in original
    assert "**yes**" in empty
    assert "**yes**" not in strong


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "parts", [("1-data", "metrics.json"), ("2-train", "manifest.json"), ("3-evaluate",)]
)
def test_a_part_that_is_missing_is_named(
    built: Path, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    root, gone = tmp_path / "part", {"4-probe", *parts}
    shutil.copytree(built, root, ignore=shutil.ignore_patterns("5-report", *gone))
    page, _ = _rebuilt(root)
    assert {part for part, said in SAID.items() if said in page.text} == gone


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_only_has_a_recipe_has_a_page(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "bare"
    root.mkdir()
    shutil.copy(built / "recipe.yaml", root)
    page, summary = _rebuilt(root)
    assert "Nothing was evaluated in this run" in page.text
    assert "The evaluation has not run" in summary
    assert {path.suffix for path in (root / "5-report").iterdir()} == {".html", ".md", ".json"}


@pytest.mark.usefixtures("undrawn")
def test_an_arm_that_was_not_trained_is_named(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "fewer"
    shutil.copytree(built, root, ignore=shutil.ignore_patterns("5-report", "4-probe"))
    shutil.rmtree(root / "2-train" / "behavior")
    page, _ = _rebuilt(root)
    assert "asks for behavior too; not trained yet" in page.text


def test_the_verdict_stands_at_the_top_and_in_the_metrics(built: Path) -> None:
    found = json.loads((built / "5-report" / "metrics.json").read_text(encoding="utf-8"))
    text = _page(built).text
    assert f"the switch holds; verdict: {found['verdict']['value']}." in text
    assert text.index("Is the rule represented? Represented.") < text.index("What was trained")
    sure = "Of 16 tests 16 pass, 2 of them by the point estimate only; causal tests have n = 40"
    assert sure in text.replace("\u00a0", " ")
    assert found["verdict/benign"]["value"] == "no switch"
    assert found["verdict"] == found["verdict/both"]
    assert found["verdict"]["value"] == "represented"
    assert "What the original’s four figures prove" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("mechanism", "kind", "said"),
    [
        (worlds.EARLY, "represented", "Every test passes"),
        (
            replace(worlds.EARLY, base=0.6),
            "motor plan",
            "untrained model (block 4), 60.0 [",
        ),
        (replace(worlds.EARLY, draws=20), "not measured", "200 null directions of each kind"),
    ],
)
def test_the_verdict_follows_from_the_causal_tests(
    tmp_path: Path, mechanism: Mechanism, kind: str, said: str
) -> None:
    page, summary = _rebuilt(worlds.write_run(tmp_path / "run", mechanism=mechanism))
    assert f"verdict: {kind}." in page.text
    assert f"**Verdict on arm `both`: {kind}.**" in summary
    assert f"| both | {kind} |" in summary
    evidence = page.text.split("The rule, fixed before this run.")[1]
    assert said.lower() in evidence.split("Every arm, every test")[0].lower()


def test_the_causal_tests_stand_in_the_table_of_every_arm_with_their_nulls(built: Path) -> None:
    found = read_material(built)
    rows = [(row.label, [*row.numbers]) for row in across_arms(found)]
    told = {k: label for k, label in LABELS.items() if not k.endswith("at_symbol")}  # not tried
    assert rows[-len(told) :] == [(label, ["both"]) for label in told.values()]
    assert len(rows) - len(told) == len([m for a in EVIDENCE for m in a.measures if m.label])
    text = _page(built).text.replace("\u00a0", " ")
    section = text.split("Every arm, every test")[1].split("Small figures")[0]
    assert all(label in section for label in told.values())
    summary = (built / "5-report" / "ANALYSIS_SUMMARY.md").read_text(encoding="utf-8")
    assert all(f"| {label} |" in summary for label in told.values())


def test_every_test_that_decided_and_where_it_first_passes_is_told(built: Path) -> None:
    text, found = _page(built).text, read_material(built).verdict
    assert found is not None
    assert len(found.tests) > 10
    for line in (*found.earliest, *(test.said for test in found.tests)):
        assert line[1:] in text
    assert "necessity at the last position first passes at depth 0.50 (block 4)" in "\n".join(
        found.earliest
    )
