"""The site: built strictly, each page in its menu, links lead somewhere, nothing from elsewhere."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest

import offswitch
from tests.outside import ROOT

DOCS: Final = ROOT / "docs"
BUILD: Final = runpy.run_path(str(DOCS / "build.py"))
LOADED: Final = ("script", "img", "iframe", "source", "video", "audio", "object", "embed")


class _Page(HTMLParser):
    """What a page loads, what it links to, and the names that a link can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {key: value or "" for key, value in attrs}
        self.names |= {held[key] for key in ("id", "name") if key in held}
        if tag == "a" and "href" in held:
            self.links.append(held["href"])
        if tag in LOADED:
            self.loads += [held[key] for key in ("src", "srcset", "data") if held.get(key)]
        if tag == "link" and "canonical" not in held.get("rel", ""):
            self.loads.append(held["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, with the tutorial as it is kept: without outputs."""
    folder = tmp_path_factory.mktemp("site")
    made: Path = BUILD["build"](folder, BUILD["tutorial"](run=False))
    return made


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path) for path in site.rglob("*.html")}


def _in_menu(entries: Any) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _in_menu(value)


def test_every_page_is_in_the_menu_once(site: Path) -> None:
    menu = list(
        _in_menu(
            tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
        )
    )
    here = [path.name for path in DOCS.glob("*.md")] + [*BUILD["BESIDE"], "tutorial.md"]
    assert sorted(menu) == sorted(here)
    assert all((site / page).with_suffix(".html").is_file() for page in menu)


def test_links_lead_somewhere(site: Path, pages: dict[Path, _Page]) -> None:
    lost = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links begin at the server's root
        for link in [*page.links, *page.loads]:
            name, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = (path.parent / name.split("?")[0]).resolve() if name else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].names if target in pages else {anchor}
            if not target.is_file() or anchor not in {*known, ""}:
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    loads = [load for page in pages.values() for load in page.loads]
    assert len(loads) > 100
    assert [load for load in loads if re.match(r"(?:[a-z]+:)?//", load)] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [style for style in styles if re.search(r"url\([\"']?(?:https?:)?//", style)] == []
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    assert "unpkg.com" not in text
    assert not re.search(
        r'class="(?:mermaid|arithmatex|glightbox)', text
    )  # else a script is loaded


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    lost = nbformat.v4.new_markdown_cell("# Tutorial\n\n[a page](nothing.md)")  # type: ignore[no-untyped-call]
    book = nbformat.v4.new_notebook(cells=[lost])  # type: ignore[no-untyped-call]
    with pytest.raises(SystemExit, match="page does not exist"):
        BUILD["build"](tmp_path, book)


def test_links_to_what_is_no_page_become_text() -> None:
    text = "[rule](../offswitch/analyses/rule.py), [table](../benchmarks/RESULTS.md#speed)"
    assert (
        BUILD["linked"](text, DOCS, Path("page.md")) == "rule, [table](benchmarks/RESULTS.md#speed)"
    )
    text = "[cost](../docs/cost.md), [first](tutorial.ipynb)"
    linked = BUILD["linked"](text, ROOT / "benchmarks", Path("benchmarks/RESULTS.md"))
    assert linked.startswith("[cost](../cost.md), ")
    assert BUILD["linked"](text, DOCS, Path("a.md")).endswith("[first](tutorial.md)")


def test_the_api_is_every_public_name_from_its_docstring(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    assert [name for name in offswitch.__all__ if f'id="offswitch.{name}"' not in text] == []
    assert "Every stage of a recipe, from data to report" in text
    table = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*? \|", _source("api.md"), re.M)))
    assert sorted(table) == sorted(offswitch.__all__)


def test_outputs_of_the_tutorial_are_shown(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cell = nbformat.v4.new_code_cell("found")  # type: ignore[no-untyped-call]
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="100 %\n"),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("stream", name="stderr", text="Loading"),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw=="}),  # type: ignore[no-untyped-call]
        nbformat.v4.new_output("execute_result", {"text/html": "<p>\n  motor plan</p>"}),  # type: ignore[no-untyped-call]
    ]
    book = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    page = BUILD["page_of"](book, tmp_path)
    assert "```text\n100 %\n```" in page
    assert "Loading" not in page
    assert "<p>motor plan</p>" in page
    (image,) = (tmp_path / "images").iterdir()
    assert f"](images/{image.name})" in page


def _source(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")
