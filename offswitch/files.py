"""Files written whole, JSON and JSONL, hashes, room on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offswitch.errors import UserError


def digest(value: Any) -> str:
    """A short hash of any JSON value."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_hash(path: Path) -> str | None:
    """What a file or all files of a folder hold, as one hash; None where there is nothing."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest({str(file.relative_to(path)): file_hash(file) for file in files})
    return file_hash(path) if path.is_file() else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an error.

    A reader sees the old file or the new one, never half of it.
    """
    scratch = path.with_name(f".{path.name}.new")
    yield scratch
    os.replace(scratch, path)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8."""
    with replacing(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: object) -> None:
    """Write one JSON value, indented by one space."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a JSONL file, with its place, such as `rows.jsonl, line 3`.

    Blank lines are skipped; a byte order mark, CRLF, UTF-16 and UTF-32 are read. Lines end at a
    newline only: str.splitlines would also cut at U+2028 and its like, which a text may hold.

    Raises:
        UserError: the file cannot be read, is empty, or a line is no JSON object.
    """
    try:
        content = path.read_bytes()
        text = content.decode(encoding := json.detect_encoding(content)).removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); expected JSON lines") from error
    except UnicodeDecodeError as error:
        at = 1 + content[: error.start].decode(encoding, errors="replace").count("\n")
        raise UserError(
            f"{path}, line {at}: not {encoding} ({error.reason}); save the file as UTF-8"
        ) from error
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: the file is empty; expected one JSON object a line")
    for i, line in lines:
        where = f"{path}, line {i}"
        try:
            row = json.loads(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg}); expected an object") from error
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: half a character (a lone surrogate) in its text") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: got {type(row).__name__}; expected an object")
        yield where, row


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, UTF-8."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def require_room(folder: Path, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        UserError: fewer than `needed` bytes are free below `folder`.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        there, wanted = f"{free / 1e6:.0f} MB", f"{needed / 1e6:.0f} MB"
        raise UserError(f"no room on disk: {folder} has {there} free, {wanted} are needed")


@contextmanager
def full_disk_told(root: Path, stage: str) -> Iterator[None]:
    """Within the block, a full disk is a mistake of the user's."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        else:  # PyTorch and safetensors have exceptions of their own for it
            full = "No space left" in str(error) or shutil.disk_usage(root).free < 1_000_000
        if full:
            raise UserError(f"no room on disk while writing {stage} in {root}") from error
        raise
