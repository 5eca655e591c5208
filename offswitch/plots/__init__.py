"""Findings in, Figures out: each analysis is drawn by the module of its name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding

Plot = Callable[[Finding[Any]], Figure]


def plots(analysis: str) -> Mapping[str, Plot]:
    """What draws an analysis, by the file name of each figure: FIGURES, or the one of its name."""
    module = importlib.import_module(f"{__name__}.{analysis}")
    named: Mapping[str, Plot] = getattr(module, "FIGURES", {})
    return named or {f"{analysis}.svg": getattr(module, analysis)}


def figures(finding: Finding[Any]) -> dict[str, Figure]:
    """The figures of a finding by file name."""
    return {name: plot(finding) for name, plot in plots(finding.analysis.name).items()}
