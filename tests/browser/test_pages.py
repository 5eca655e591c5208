"""Report, comparison and site in a browser: no error, no request, readable by everyone."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, Final

import pytest

from offswitch.report.build import PAGE, build_report
from offswitch.report.compare.comparison import compare
from offswitch.report.compare.write import write_comparison
from tests.browser.conftest import WIDTHS, Open, overflow, violations
from tests.outside import ROOT
from tests.report.worlds import write_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ANSWERS: Final = ("h1", ".answer", ".strip", ".verdict")  # does it work, is it represented


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a report, a comparison and the site's first page, on disk."""
    folder = tmp_path_factory.mktemp("pages")
    root = write_run(folder / "one")
    build_report(root, folder / "report")
    other = write_run(folder / "two", halts=lambda arm, _: arm == "both")
    made = write_comparison(compare([root, other]), folder / "compared")
    build = runpy.run_path(str(ROOT / "docs" / "build.py"))
    site: Path = build["build"](folder / "site", build["tutorial"](run=False))
    files = {"report": folder / "report" / PAGE, "comparison": made, "site": site / "index.html"}
    return {name: path.as_uri() for name, path in files.items()}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["report", "comparison", "site"])
def test_nothing_serious_stands_in_the_way_of_any_reader(
    pages: dict[str, str], opened: Open, name: str, dark: bool
) -> None:
    page = opened(pages[name], dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert violations(page) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "comparison", "site"])
def test_it_fits_the_window(pages: dict[str, str], opened: Open, name: str, width: int) -> None:
    page = opened(pages[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert overflow(page) <= 0


def test_the_first_screen_answers(pages: dict[str, str], opened: Open) -> None:
    page = opened(pages["report"])
    for part in ANSWERS:
        box: Any = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 800, part


def test_values_of_a_figure_show_under_the_pointer(pages: dict[str, str], opened: Open) -> None:
    page = opened(pages["report"])
    assert page.locator("#figures svg").count() == 3
    assert page.locator("#figures svg title").count() > 20
    text = page.locator("#figures svg text").first.text_content()
    assert text
    assert text.strip()
