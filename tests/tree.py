"""The annotated tree of README.md, made from the files' own first lines.

`python -m tests.tree` writes it into README.md; a test keeps the two equal.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
MARKS: Final = ("<!-- tree -->", "<!-- /tree -->")
FOLDERS: Final = (
    "offswitch", "datasets", "training", "analysis", "recipes", "benchmarks", "examples", "tests",
)  # fmt: skip
# In the order in which to read; whatever is not named follows by name.
ORDER: Final = (
    "cli", "pipeline", "config", "run", "session", "trigger", "model", "subject", "adapters",
    "hooks", "chat", "generate", "stats", "metrics", "data", "train", "evaluate", "probe", "plots",
    "report", "app", "documents", "dialogues", "splits", "suites", "scoring", "examples", "loss",
)  # fmt: skip
SUFFIXES: Final = (".py", ".yaml", ".ipynb")
COLUMN: Final = 38


def render() -> str:
    """One line for each file: its name, and what its first line says it is for."""
    lines = [line for name in FOLDERS for line in _folder(ROOT / name, 0)]
    return "\n".join(lines)


def in_readme() -> str:
    """The tree that README.md shows."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]
    return shown.strip().removeprefix("```text\n").removesuffix("\n```")


def first_line(path: Path) -> str:
    """A module's first docstring line, a recipe's first comment, a notebook's first heading."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix == ".ipynb":
        said = "".join(json.loads(text)["cells"][0]["source"])
    else:
        said = text if text.startswith("#") else ""
    return said.split("\n", 1)[0].strip("# ")


def _folder(folder: Path, depth: int) -> list[str]:
    inside = [p for p in _sorted(folder) if p.name != "__init__.py"] if folder.is_dir() else []
    package = folder / "__init__.py"
    if not inside:
        return []
    head = _line(f"{folder.name}/", depth, first_line(package) if package.is_file() else "")
    if folder.name == "tests":
        return [head]
    rows = ([_line(p.name, depth + 1, first_line(p))] if p.is_file() else _folder(p, depth + 1)
            for p in inside)  # fmt: skip
    return [head, *(line for lines in rows for line in lines)]


def _sorted(folder: Path) -> list[Path]:
    there = [p for p in folder.iterdir() if p.suffix in SUFFIXES or p.is_dir()]
    kept = [p for p in there if not p.name.startswith((".", "__pycache__"))]
    return sorted(kept, key=lambda p: (ORDER.index(p.stem) if p.stem in ORDER else 99, p.name))


def _line(name: str, depth: int, says: str) -> str:
    return f"{'  ' * depth + name:<{COLUMN}}{says}".rstrip()


if __name__ == "__main__":
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    tree = f"{MARKS[0]}\n```text\n{render()}\n```\n{MARKS[1]}"
    readme.write_text(before + tree + after, encoding="utf-8")
