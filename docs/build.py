"""Builds the site: the pages and the tutorial laid into a folder, made into HTML by Zensical.

The tutorial is run where runs/demo stands, so that its page shows what came out. A link to a file
that is no page becomes plain text. Nothing in the site asks the network for anything.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nbformat
import typer
from nbclient import NotebookClient

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
TUTORIAL: Final = DOCS / "tutorial.ipynb"
BESIDE: Final = ("benchmarks/RESULTS.md", "benchmarks/training.md")  # pages that lie elsewhere
COMMENT: Final = re.compile(r"^<!--.*-->\n", re.M)  # within a table it would end the table
LINK: Final = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
SHIM: Final = "https://unpkg.com/iframe-worker/shim"  # what the search plugin would load
OWN_SHIM: Final = "assets/iframe-worker.js"


def build(folder: Path, book: Any) -> Path:
    """The site's folder, made in `folder` from docs/ and the tutorial as it stands in `book`.

    Raises:
        SystemExit: a link leads nowhere, or something else is not as Zensical would have it.
    """
    pages = folder / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(DOCS / "images", pages / "images")
    shutil.copytree(DOCS / "assets", pages / "assets")
    shutil.copyfile(DOCS / "zensical.toml", folder / "zensical.toml")
    for path in (*DOCS.glob("*.md"), *(ROOT / name for name in BESIDE)):
        page = path.relative_to(DOCS if path.parent == DOCS else ROOT)
        _write(pages / page, linked(path.read_text(encoding="utf-8"), path.parent, page))
    _write(pages / "tutorial.md", linked(page_of(book, pages), DOCS, Path("tutorial.md")))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    beside = os.environ | {"PYTHONPATH": str(ROOT)}  # the package beside this file is read
    done = subprocess.run(
        command, cwd=folder, env=beside, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    site = folder / "site"
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM, f"{up}{OWN_SHIM}"), encoding="utf-8")
    return site


def linked(text: str, folder: Path, page: Path) -> str:
    """A page's text with its links to pages, and the text alone of links to anything else."""
    up = "../" * (len(page.parts) - 1)

    def link(match: re.Match[str]) -> str:
        words, name, anchor = match[1], match[2], match[3] or ""
        target = (folder / name).resolve()
        if target == TUTORIAL:
            target = target.with_suffix(".md")
        if target.is_relative_to(DOCS):
            return f"[{words}]({up}{target.relative_to(DOCS)}{anchor})"
        inside = str(target.relative_to(ROOT))
        return f"[{words}]({up}{inside}{anchor})" if inside in BESIDE else words

    return LINK.sub(link, COMMENT.sub("", text))


def page_of(book: Any, pages: Path) -> str:
    """The notebook as Markdown: its text, its code and what each cell showed."""
    parts: list[str] = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            parts += _shown(output, pages, f"images/tutorial_{len(parts)}.png")
    return "\n\n".join(parts) + "\n"


def _shown(output: Any, pages: Path, image: str) -> Iterator[str]:
    """One output of a cell: a picture, a table, or text; progress and warnings are left out."""
    kinds = output.get("data", {})
    if "image/png" in kinds:
        (pages / image).write_bytes(base64.b64decode(kinds["image/png"]))
        yield f"![What the cell above draws]({image})"
    elif output.output_type == "execute_result" and "text/html" in kinds:
        own = r'<style.*?</style>| border="1" class="dataframe"'  # the site's looks, not pandas'
        html = re.sub(own, "", kinds["text/html"], flags=re.DOTALL)
        yield f'<div class="shown">{"".join(line.strip() for line in html.splitlines())}</div>'
    elif output.output_type == "stream" and output.name == "stdout":
        yield f"```text\n{output.text.rstrip()}\n```"


def tutorial(run: bool) -> Any:
    """The tutorial, with its outputs if it is to be run."""
    book = nbformat.read(TUTORIAL, as_version=4)  # type: ignore[no-untyped-call]
    if run:
        where = {"metadata": {"path": str(DOCS)}}
        NotebookClient(book, timeout=3600, kernel_name="python3", resources=where).execute()
    return book


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    stands = (ROOT / "runs/demo/metrics.json").is_file()
    typer.echo("running the tutorial" if stands else "no runs/demo: the tutorial shows no outputs")
    made = build(ROOT / "build", tutorial(run=stands))
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    typer.echo(f"{shutil.move(made, ROOT / 'site')}/index.html")
