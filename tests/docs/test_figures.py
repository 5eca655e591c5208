"""docs/figures.md: each module that draws a figure has its section, with how it misleads."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from offswitch.report.build import BELIEF, CARD, DEPTH, LADDER, LOG_ODDS, SMALL_LADDER
from tests.outside import ROOT

PLOTS: Final = ROOT / "offswitch" / "plots"
SECTIONS: Final = re.split(
    r"^## ", (ROOT / "docs/figures.md").read_text(encoding="utf-8"), flags=re.M
)[2:]
FRAME: Final = "style"  # its figures are empty
EVALUATION: Final = {
    "ladder": (LADDER, SMALL_LADDER),
    "log_odds": (LOG_ODDS,),
    "belief": (BELIEF,),
    "depth": (DEPTH.format("ARM"),),
    "card": (CARD,),
}


def _files(module: Path) -> tuple[str, ...] | None:
    """The files of a module's figures, none of those only shown; None if it draws no figure."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    named = [
        ast.literal_eval(key)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FIGURES"
        for key in getattr(node.value, "keys", ())
    ]
    drawn = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and ast.unparse(node.returns) == "Figure"
    ]
    if named or not drawn:
        return tuple(named) or None
    if module.stem not in drawn:
        return ()  # for the explorer
    return EVALUATION.get(module.stem, (f"{module.stem}.svg",))


def test_each_figure_has_a_section_that_says_how_to_read_it_and_how_it_misleads() -> None:
    modules = (module for module in PLOTS.glob("*.py") if module.stem != FRAME)
    drawn = {module.stem: files for module in modules if (files := _files(module)) is not None}
    assert len(drawn) >= 15
    told = {}
    for section in SECTIONS:
        (name,) = re.findall(r"^\*Module `(\w+)`\.\*", section, re.M)
        told[name] = tuple(re.findall(r"`([^`]+)`", section.split("\n", 1)[0]))
        assert "**Read it" in section, name
        assert len(section.split("**It misleads**")[1].split()) > 30, name
    assert told == drawn
