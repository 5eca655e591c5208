"""A number leaves the program with all that belongs to it, and comes back."""

from __future__ import annotations

from pathlib import Path

from offswitch.metrics import Metric, exact, p_text, read_metrics, with_controls, write_metrics
from offswitch.stats import Estimate, Null


def test_absent_parts_are_omitted() -> None:
    bare = Metric.of(Estimate(0.5, 0.4, 0.6, 10, "share")).row()
    assert bare == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10, "unit": "share"}
    full = Metric.of(
        Estimate(0.5, 0.4, 0.6, 10, "share"), Null(q95=0.2, p=0.01, n=99), {"base": 0.0}
    ).row()
    assert full["null"] == {"q95": 0.2, "p": 0.01, "n": 99}
    assert full["controls"] == {"base": 0.0}


def test_an_adjusted_p_stands_beside_p_where_there_is_one() -> None:
    plain, adjusted = Null(q95=0.2, p=0.012, n=99), Null(q95=0.2, p=0.012, n=99, adjusted=0.048)
    row = Metric(0.5, "share", null=adjusted).row()
    assert row["null"] == {"q95": 0.2, "p": 0.012, "n": 99, "adjusted": 0.048}
    assert Metric.read(row).null == adjusted
    assert p_text(plain) == "p = 0.012"
    assert p_text(adjusted) == "p = 0.012 (0.048 adjusted)"


def test_a_number_is_read_with_all_that_belongs_to_it() -> None:
    bare = Metric.of(Estimate(0.5, 0.4, 0.6, 10, "share"))
    full = Metric.of(bare.estimate, Null(q95=0.2, p=0.01, n=99), {"base": 0.0})
    assert [Metric.read(metric.row()) for metric in (bare, full)] == [bare, full]


def test_an_exact_number_has_no_width() -> None:
    found = exact(3.0, "tokens/s", n=7).estimate
    assert (found.low, found.value, found.high, found.n) == (3.0, 3.0, 3.0, 7)


def test_what_is_written_is_read_and_keys_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    assert read_metrics(path) == {}
    metrics = {"b/é": exact(1.0, "x"), "a": exact(2.0, "y")}
    write_metrics(path, metrics)
    assert list(read_metrics(path)) == ["a", "b/é"]
    assert read_metrics(path) == {key: metric.row() for key, metric in metrics.items()}


def test_the_arms_name_is_matched_whole() -> None:
    metrics = {
        "evaluate/both/x": exact(1.0, "u"),
        "evaluate/both2/x": exact(2.0, "u"),
        "train/both/x": exact(3.0, "u"),
    }
    assert list(with_controls(metrics, "both", ["both2"])) == ["evaluate/both/x"]
    assert with_controls(metrics, "both", ["both2"])["evaluate/both/x"].controls == {"both2": 2.0}
