"""Files written whole, JSON and JSONL, hashes, room on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError, in_one_line


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


def mark(path: Path, about: str = "") -> None:
    """Write beside a file or folder what it holds; `stands` then knows it again."""
    write_atomic(mark_of(path), digest([about, content_hash(path)]))


def stands(path: Path, about: str = "") -> bool:
    """Is a file or folder there, and what it was when it was marked?"""
    if not path.exists() or not (beside := mark_of(path)).is_file():
        return False
    told = beside.read_text(encoding="utf-8", errors="replace")
    return told == digest([about, content_hash(path)])


def mark_of(path: Path) -> Path:
    """Where the mark of a file or folder lies."""
    return path.with_name(f".{path.name}.mark")


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


SEAL: Final = "seal"


def sealed(content: Mapping[str, Any], about: str) -> dict[str, Any]:
    """JSON with a hash of itself, and of what it is about, by which later damage is noticed."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain | {SEAL: digest([about, plain])}


def unsealed(content: object, about: str) -> dict[str, Any] | None:
    """What was sealed; None of what was changed since, never sealed, or is about something else."""
    if not isinstance(content, dict):
        return None
    plain = {key: value for key, value in content.items() if key != SEAL}
    return plain if content.get(SEAL) == digest([about, plain]) else None


def write_sealed(path: Path, content: Mapping[str, Any], about: str = "") -> None:
    """Write sealed JSON; it is on the disk itself before it has its name, and that when it returns.

    So a power cut leaves the old file or the new one.
    """
    with replacing(path) as scratch:
        write_json(scratch, sealed(content, about))
        settled(scratch)
    settled(path)


def read_sealed(path: Path, about: str = "") -> dict[str, Any] | None:
    """What `write_sealed` wrote; None where the file is absent, damaged or about something else."""
    try:
        return unsealed(json.loads(path.read_text(encoding="utf-8")), about)
    except (OSError, ValueError, RecursionError):
        return None


def settled(path: Path) -> Path:
    """A file, and its name in its folder, brought to the disk itself: it outlives a power cut."""
    for place in (path, path.parent):
        handle = os.open(place, os.O_RDONLY)
        try:
            with suppress(OSError):  # some drives cannot do it for a folder
                os.fsync(handle)
        finally:
            os.close(handle)
    return path


def read_whole(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: it cannot be read, or is a device, which may never end.
    """
    if (path.is_char_device() or path.is_block_device()) and path.exists():
        raise OSError(errno.EINVAL, "a device, not a file")
    return path.read_bytes()


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a JSONL file, with its place, such as `rows.jsonl, line 3`.

    Blank lines are skipped; a byte order mark, CRLF, UTF-16 and UTF-32 are read. Lines end at a
    newline only: str.splitlines would also cut at U+2028 and its like, which a text may hold.

    Raises:
        UserError: the file cannot be read, is empty, or a line is no JSON object.
    """
    try:
        content = read_whole(path)
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
        except UnicodeEncodeError as error:
            raise UserError(f"{where}: half a character (a lone surrogate) in its text") from error
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no JSON error
            told = getattr(error, "msg", in_one_line(error, 100))
            raise UserError(f"{where}: not JSON ({told}); expected an object") from error
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
