"""One arm of a run as a folder for the Hub: made beside its place, and moved there when whole."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.export.origin import MANIFEST, Origin, origin_of
from offswitch.files import digest, file_hash, full_disk_told, write_json
from offswitch.folder.lock import claim
from offswitch.progress import say

VERSION: Final = "1"  # of what an export holds; one of another version is made again


def export(
    root: Path, arm: str | None, folder: Path, kinds: tuple[str, ...] = (), base: str | None = None
) -> None:
    """Write an arm into `folder`, whole or not at all; what stands already is kept.

    `kinds` are those of GGUF files, `base` what the model was published as. An interrupted export
    goes on where it stopped; more kinds are added to an export that stands.

    Raises:
        UserError: the arm cannot be exported, a converter is absent, the folder is something else,
            or a form does not do what the run's arm did.
    """
    if kinds:
        from offswitch.export.llama import require_llama

        require_llama(kinds)
    origin = origin_of(root, arm, base)
    name = origin.name() | {"version": VERSION}
    known = _known(folder, name)
    own = known.get("name") == name
    every = tuple(dict.fromkeys((*(known["gguf"] if own else ()), *kinds)))
    if own and [*every] == known["gguf"]:
        say(f"{folder}: up to date")
        return
    with suppress(OSError):  # a run that may only be read
        claim(root)
    scratch, mark = _begin(folder, digest([name, every]), like=folder if own else None)
    with full_disk_told(scratch, str(folder)):
        _fill(origin, scratch, every)
        files = sorted(path for path in scratch.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(scratch)): file_hash(path) for path in files}
        hashes.pop(MANIFEST, None)
        write_json(scratch / MANIFEST, {"name": name, "gguf": every, "files": hashes})
    old = scratch.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    scratch.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    mark.unlink()
    say(f"{folder}: {len(hashes)} files")


def _known(folder: Path, name: dict[str, str]) -> dict[str, Any]:
    """What an export that stands is of; empty where nothing stands.

    Raises:
        UserError: the folder is something else.
    """
    path = folder / MANIFEST
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # absent, or no JSON
        known = json.loads(path.read_text("utf-8"))
    same = all(known.get("name", {}).get(key) == name[key] for key in ("run", "arm"))
    if folder.exists() and not same:
        raise UserError(f"{folder} is there already, and is no export of arm '{name['arm']}' of "
                        f"run '{name['run']}'; name a new folder")  # fmt: skip
    return known


def _begin(folder: Path, inputs: str, like: Path | None) -> tuple[Path, Path]:
    """Where the export is made, and the mark beside it of what it is made from.

    It holds what an earlier try left of the same, else what stands, `like`, else nothing.
    """
    scratch = folder.absolute().with_name(f".{folder.name}.new")
    mark = scratch.with_name(f".{folder.name}.inputs")
    try:
        if not mark.is_file() or mark.read_text("utf-8") != inputs:
            shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            if like:
                shutil.copytree(like, scratch, copy_function=_link)
            scratch.mkdir(parents=True, exist_ok=True)
            mark.write_text(inputs, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {scratch.parent}: {error.strerror}") from error
    return scratch, mark


def _link(source: str, target: str) -> None:
    """A second name for a file that is never changed in place; a copy where there are no such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _fill(origin: Origin, scratch: Path, kinds: tuple[str, ...]) -> None:
    from offswitch.export.forms import write_forms
    from offswitch.export.private import require_private
    from offswitch.export.texts import write_texts

    write_forms(origin, scratch, kinds)
    write_texts(origin, scratch)
    require_private(scratch, origin.run.root.resolve().parent, scratch.parent)
