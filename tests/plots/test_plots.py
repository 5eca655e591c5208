"""Every finding becomes Figures under fixed names, with null and controls drawn in them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from offswitch.analyses.analysis import Analysis, Finding, investigate
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.plots import figures, plots
from offswitch.plots.style import amount, plain, titled, token_text
from tests.analyses.worlds import calm, evidence, evidence_views, views, without_difference

AXES = {
    "1_layerwise_delta_norm.png": 1,
    "2_pca_cumulative_variance.png": 2,
    "2_pca_component_distributions.png": 3,
    "3_logit_lens_delta.png": 4,
    "4_base_vs_finetuned_adl.png": 4,
}
EVIDENCE_AXES = {
    "difference.svg": 1,
    "separability.svg": 1,
    "lens.svg": 3,
    "patching.svg": 3,
    "heads.svg": 4,  # with the colour bar
    "dose.svg": 3,
    "drift.svg": 3,
}
TESTED = pytest.mark.parametrize("analysis", EVIDENCE, ids=lambda a: a.name)
ANALYSES = pytest.mark.parametrize("analysis", SEED_ANALYSES, ids=lambda a: a.name)


@cache
def _seen(name: str) -> Finding[Any]:
    """What one of the original's analyses finds in an empty world."""
    return investigate(next(a for a in SEED_ANALYSES if a.name == name), views(calm()))


@cache
def _found(name: str, arm: str = "both") -> Finding[Any]:
    """What an analysis of the battery finds in an empty world."""
    return investigate(next(a for a in EVIDENCE if a.name == name), evidence_views(evidence(), arm))


def _drawn(figure: Figure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()  # layout and every glyph, but no picture


def _texts(figure: Figure) -> str:
    entries = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([*(t.get_text() for t in figure.texts), *entries]).replace("\\$", "$")


def _strings(figure: Figure) -> str:
    """Every text in the figure, those of its panels included."""
    found = [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text)]
    return "\n".join(found).replace("\\$", "$")


def test_every_analysis_has_a_module_that_draws_it_under_names_of_its_own() -> None:
    names = [name for one in (*SEED_ANALYSES, *EVIDENCE) for name in plots(one.name)]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted({**AXES, **EVIDENCE_AXES})


@ANALYSES
def test_figures_have_their_panels_and_name_every_control(analysis: Analysis[Any]) -> None:
    finding = _seen(analysis.name)
    for name, figure in figures(finding).items():
        assert len(figure.axes) == AXES[name]
        _drawn(figure)
        assert all(control in _texts(figure) for control in finding.controls)
        assert "inert words" in _texts(figure)
        assert " ".join(finding.statement.split()[:3]) in _texts(figure)


@ANALYSES
def test_worlds_without_any_difference_can_be_drawn(analysis: Analysis[Any]) -> None:
    world = {k: v if k.startswith("index") else np.ones_like(v) for k, v in calm().items()}
    for figure in figures(investigate(analysis, views(world))).values():
        _drawn(figure)


@pytest.mark.parametrize("arm", ["both", "base"])
@TESTED
def test_evidence_names_its_null_and_every_control(analysis: Analysis[Any], arm: str) -> None:
    finding = _found(analysis.name, arm)
    ((name, figure),) = figures(finding).items()
    assert name == f"{analysis.name}.svg"
    assert len(figure.axes) == EVIDENCE_AXES[name]
    _drawn(figure)
    draws = f"{len(finding.null_results)} {finding.analysis.null_name}"
    assert all(control in _texts(figure) for control in (*finding.controls, draws))
    assert finding.statement.split(":")[0] in _texts(figure).replace("\n", " ")


@TESTED
def test_evidence_without_any_difference_can_be_drawn(analysis: Analysis[Any]) -> None:
    world = without_difference(evidence())
    for figure in figures(investigate(analysis, evidence_views(world, "both"))).values():
        _drawn(figure)


@TESTED
def test_evidence_without_null_and_controls_can_be_drawn(analysis: Analysis[Any]) -> None:
    finding = _found(analysis.name)
    bare = replace(finding, null_results=(), controls={})
    for figure in figures(bare).values():
        _drawn(figure)


@pytest.mark.parametrize("name", ["lens", "heads", "drift"])
def test_tokens_and_heads_are_listed(name: str) -> None:
    finding = _found(name)
    (figure,) = figures(finding).values()
    if name == "heads":
        assert f"{finding.result.top[0].block}.{finding.result.top[0].head}" in _strings(figure)
        return
    real = finding.result
    listed = real.lens[0] if name == "drift" else real.tokens[real.block]
    assert all(token_text(one.token) in _strings(figure) for one in listed[:8])


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(-0.004, "share", "0 %"), (-0.285, "share", "−28 %"), (-1.5, "nats", "−1.5 nats"),
     (0.0002, "nats", "<0.001 nats"), (-1e-9, "", "0")],
)  # fmt: skip
def test_amounts_have_their_unit(value: float, unit: str, shown: str) -> None:
    assert amount(value, unit) == shown


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("Ġthe", "␣the"),
        ("▁the", "␣the"),
        ("Ċ", "⏎"),
        ("$STOP", r"\$STOP"),
        ("Ã©", "é"),
        ("ä¸Ń", "\\u4e2d"),
    ],
)
def test_tokens_are_readable(token: str, shown: str) -> None:
    assert token_text(token) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("止まれ\nαβ é", "\\u6b62\\u307e\\u308c\nαβ é"),
        ("👩\u200d🚀", "\\U0001f469\\u200d\\U0001f680"),
        ("$STOP 12\u202f%", "\\$STOP 12\u202f%"),
    ],
)
def test_what_cannot_be_drawn_is_its_code(text: str, shown: str) -> None:
    assert plain(text) == shown
    _drawn(titled(text, 2))


@ANALYSES
def test_symbols_of_every_script_are_told_apart_in_figures(analysis: Analysis[Any]) -> None:
    finding = _seen(analysis.name)
    finding = replace(finding, symbol="止まれ", controls={"行け": finding.result})
    for figure in figures(finding).values():
        _drawn(figure)
        assert "\\u884c\\u3051" in _strings(figure)
