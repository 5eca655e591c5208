"""The house rules that a program can check: rooms, sizes, imports, words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "offswitch"
SOURCES: Final = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}

AT_THE_TOP: Final = 12
LONGEST_FILE: Final = 300
SHORT: Final = 4  # lines, from def to the end
SHORT_HELPERS: Final = 30
NOT_OURS: Final = re.compile(
    r"\b(anew|lest|dear(er|est)?|mend(s|ed|ing)?|holds?\s+but|for\s+the\s+while|is\s+said"
    r"|one['’]s\s+own|a\s+row\s+an\s+arm)\b",
    re.IGNORECASE,
)


def _name(path: Path) -> str:
    """A file's module, as it is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES: Final = {_name(path): ast.parse(text) for path, text in SOURCES.items()}


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what stands under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from _without_type_checking(child)


def _imported(tree: ast.AST) -> set[str]:
    """The modules of the package that a module imports, at its head or later."""
    found: set[str] = set()
    for node in _without_type_checking(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found & MODULES.keys()


def test_the_top_level_is_full_at_twelve_modules() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= AT_THE_TOP, sorted(modules)


def test_no_file_is_longer_than_three_hundred_lines() -> None:
    folders = (PACKAGE, ROOT / "tests", ROOT / "benchmarks")
    files = [path for folder in folders for path in folder.rglob("*.py")]
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_few_short_helpers_have_one_use() -> None:
    """Three plain lines with one caller stay where they are used, unless the field has a name."""
    helpers = []
    for module, tree in MODULES.items():
        used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        helpers += [
            f"{module}.{node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
            and node.name.startswith("_")
            and (node.end_lineno or node.lineno) - node.lineno < SHORT
            and used.count(node.name) == 1
        ]
    assert len(helpers) <= SHORT_HELPERS, helpers


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: _imported(tree) - {module} for module, tree in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
    else:
        circle = ""
    assert circle == ""


def test_words_are_plain_modern_english() -> None:
    files = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".html", ".md")]
    files += [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    found = [
        f"{path.relative_to(ROOT)}: {' '.join(match[0].split())}"
        for path in files
        for match in NOT_OURS.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
