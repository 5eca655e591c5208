"""What the report says of attacks: rows, sentences, and which points count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offswitch.folder import SURVIVAL
from offswitch.metrics import Metric, write_metrics
from offswitch.plots.survives import HALTS, NEAR, Survival, survives
from offswitch.plots.vector import table
from offswitch.report.card import _kept
from offswitch.report.survives import FACTS, survival, survived


def _rate(value: float) -> Metric:
    return Metric(value, "share", max(0.0, value - 0.1), min(1.0, value + 0.1), 60)


NUMBERS = {
    f"endure/a/none/{HALTS}": _rate(1.0),
    f"endure/a/pruning/20/{HALTS}": _rate(0.9),
    f"endure/a/pruning/20/{NEAR}": _rate(0.0),
    "endure/a/pruning/20/perplexity_ratio": Metric(1.02, "ratio", 1.0, 1.05, 300),
    f"endure/a/pruning/50/{HALTS}": _rate(0.1),
    "endure/a/pruning/50/perplexity_ratio": Metric(9.0, "ratio", 8.0, 10.0, 300),
    f"endure/base/pruning/50/{HALTS}": _rate(0.05),
    "endure/a/pruning/half_at_least": Metric(20, "% of the weights", 20, 20, 6),
    "endure/a/removal/half": Metric(7.5, "rows", 4.0, None, 6),
    f"endure/a/removal/64/{HALTS}": _rate(0.0),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run folder with attacks."""

    def points(*strengths: int) -> list[dict[str, object]]:
        return [{"kind": "", "strength": s, "key": f"{s}", "counts": s != 50} for s in strengths]

    attacks = [
        {"name": "pruning", "question": "How much?", "unit": "% of the weights", "restores": False,
         "points": points(20, 50)},
        {"name": "removal", "question": "How many?", "unit": "rows", "restores": False,
         "points": points(64)},
    ]  # fmt: skip
    facts = {"arm": "a", "controls": ["base"], "most_damage": 1.1, "quick": True,
             "skipped": {"merging": "nothing to merge with"}, "attacks": attacks}  # fmt: skip
    folder = tmp_path / SURVIVAL
    folder.mkdir(parents=True)
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    write_metrics(tmp_path / "metrics.json", NUMBERS)
    return tmp_path


def _found(root: Path) -> Survival:
    found = survival(root, NUMBERS)
    assert found is not None
    return found


def test_a_run_that_was_not_attacked_has_no_section(tmp_path: Path) -> None:
    assert survival(tmp_path, NUMBERS) is None
    assert survived(tmp_path) == "no attack was made"


def test_sentences_say_where_half_is_left_or_how_far_was_tried(root: Path) -> None:
    pruning, removal = _found(root).attacks
    assert pruning.sentences == ("Halting does not get to half within 20 % of the weights.",)
    assert removal.sentences == (
        "Halting falls to half after 7.5 rows [4, more than was tried], n = 6 questions.",
    )


def test_what_ruins_the_model_is_marked_and_controls_stand_beside(root: Path) -> None:
    mild, hard = _found(root).attacks[0].rows
    assert (mild.name, mild.counts, mild.controls) == ("20 % of the weights", True, {})
    assert not hard.counts
    assert hard.controls["base"].value == 0.05
    text = survived(root)
    assert "50 % of the weights: does not count, it ruins the model" in text
    assert "merging: left out, nothing to merge with" in text


def test_the_figure_holds_every_rate_and_its_controls(root: Path) -> None:
    lines = table(survives(_found(root), "What is left?")).splitlines()[1:]
    told = {",".join(line.split(",")[1:2]): line for line in lines}
    assert "no attack" in told
    assert any("arm base" in line and "50 % of the weights" in line for line in lines)
    assert sum("20 % of the weights" in line for line in lines) == 2


def test_the_card_leaves_no_attack_out_and_shows_what_left_the_least(root: Path) -> None:
    found = _found(root)
    many: Any = SimpleNamespace(verdict=None, survival=replace(found, attacks=found.attacks * 8))
    rows = [(line.what, line.number.partition(" [")[0]) for line in _kept(many)]
    one = [("halts after pruning, 20 % of the weights", "90.0\u00a0%"),
           ("halts after removal, 64 rows", "0.0\u00a0%")]  # fmt: skip
    assert rows == one * 8
