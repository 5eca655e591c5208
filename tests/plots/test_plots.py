"""Every finding becomes Figures under the seed's names, with null and controls drawn in them."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from offswitch.plots import PLOTS, figures
from offswitch.plots.style import token_text
from offswitch.probe.analyses import SEED_ANALYSES
from offswitch.probe.analysis import Analysis, investigate
from tests.probe.worlds import calm, views

AXES = {
    "1_layerwise_delta_norm.png": 1,
    "2_pca_cumulative_variance.png": 2,
    "2_pca_component_distributions.png": 3,
    "3_logit_lens_delta.png": 4,
    "4_base_vs_finetuned_adl.png": 4,
}
ANALYSES = pytest.mark.parametrize("analysis", SEED_ANALYSES, ids=lambda a: a.name)


def _drawn(figure: Figure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=40)


def _texts(figure: Figure) -> str:
    entries = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([*(t.get_text() for t in figure.texts), *entries]).replace("\\$", "$")


def test_the_files_have_the_seeds_names() -> None:
    assert {name for plots in PLOTS.values() for name in plots} == set(AXES)
    assert set(PLOTS) == {analysis.gives for analysis in SEED_ANALYSES}


@ANALYSES
def test_figures_have_their_panels_and_name_every_control(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, views(calm()))
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
