"""One arm of a run as a folder for the Hub: made beside its place, and moved there when whole."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.export.origin import MANIFEST, Origin, origin_of
from offswitch.files import (
    digest,
    file_hash,
    full_disk_told,
    read_sealed,
    settled,
    write_atomic,
    write_sealed,
)
from offswitch.folder.lock import LOCK, claim, release
from offswitch.folder.whole import wrong
from offswitch.progress import say

VERSION: Final = "2"  # of what an export holds; one of another version is made again
EDITED: Final = ".edited"  # what a person wrote on a card of an export that is made again


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
    old = folder.absolute().with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # killed between the two moves at the end
        old.rename(folder)
    known = _known(folder, name)
    own = known.get("name") == name
    every = tuple(dict.fromkeys((*(known["gguf"] if own else ()), *kinds)))
    found = [*wrong(folder, known.get("files", {}))]
    # A card is text, which a person may go on writing; an empty one nobody wrote.
    cards = {p.name for p in folder.glob("*.md") if p.stat().st_size}
    edited = [path for path, _ in found if path in cards]
    changed = [(path, how) for path, how in found if own and path not in edited]
    for path, how in changed:
        say(f"{folder / path} {how}: made again")
    own = own and not changed
    if own and [*every] == known["gguf"]:
        for path in edited:
            say(f"{folder / path} was changed: kept as it is")
        say(f"{folder}: up to date")
        return
    with suppress(OSError):  # a run that may only be read
        claim(root)
    scratch, mark = _begin(folder, digest([name, every]), like=folder if own else None)
    with full_disk_told(scratch, str(folder)):
        _fill(origin, scratch, every)
        for path in edited:
            say(f"{folder / path} was changed: kept as {path}{EDITED}")
            write_atomic(scratch / f"{path}{EDITED}", (folder / path).read_bytes())
        for kept in folder.glob(f"*{EDITED}"):
            if kept.name.removesuffix(EDITED) not in edited:
                write_atomic(scratch / kept.name, kept.read_bytes())
        written = sorted(p for p in scratch.rglob("*") if p.is_file() and p.name != LOCK)
        hashes = {str(path.relative_to(scratch)): file_hash(settled(path)) for path in written}
        hashes.pop(MANIFEST, None)
        write_sealed(scratch / MANIFEST, {"name": name, "gguf": every, "files": hashes})
    release(scratch)
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
    known = read_sealed(folder / MANIFEST) or {}
    same = all(known.get("name", {}).get(key) == name[key] for key in ("run", "arm"))
    if folder.exists() and not same:
        raise UserError(f"{folder} is there already, and is no export of arm '{name['arm']}' of "
                        f"run '{name['run']}'; name a new folder")  # fmt: skip
    return known


def _begin(folder: Path, inputs: str, like: Path | None) -> tuple[Path, Path]:
    """Where the export is made, this process's own, and the mark of what it is made from.

    It holds what an earlier try left of the same, else what stands, `like`, else nothing.
    """
    scratch = folder.absolute().with_name(f".{folder.name}.new")
    mark = scratch.with_name(f".{folder.name}.inputs")
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        claim(scratch)
        same = mark.is_file() and mark.read_text("utf-8") == inputs
        # Of the same, what begins with a dot was half written when it was interrupted.
        for path in [*(scratch.rglob(".*") if same else scratch.iterdir())]:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        if not same:
            if like:
                shutil.copytree(like, scratch, copy_function=_link, dirs_exist_ok=True)
            write_atomic(mark, inputs)
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
