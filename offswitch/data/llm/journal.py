"""The journal of answers: one line of JSON for each, appended as it comes in.

A line is on disk before the next step is taken, so that a killed run loses what was under way and
nothing else. A last line that was cut is taken off; damage anywhere else is refused. Answers are
found by their request's key, so that other options, another model or another plan simply find none.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from offswitch.errors import UserError
from offswitch.files import sealed, unsealed


@dataclass(frozen=True)
class Entry:
    """One answer: `answer` as it was parsed, or `unusable`, which says why it could not be."""

    task: str
    key: str
    answer: dict[str, Any] | None
    unusable: str | None
    input_tokens: int
    output_tokens: int
    retries: int = 0

    @property
    def kind(self) -> str:
        """What was asked for: ideas, draft, critique or revision."""
        return self.task.partition("/")[0]


@dataclass
class Journal:
    """The answers of a file, and the file if it is open for more."""

    path: Path
    usable: dict[str, Entry] = field(default_factory=dict)
    unusable: dict[str, list[Entry]] = field(default_factory=dict)
    handle: IO[bytes] | None = None

    def add(self, entry: Entry) -> None:
        """Keep an answer, on disk first; RuntimeError if the journal is only read."""
        if self.handle is None:
            raise RuntimeError(f"{self.path} is open for reading only")
        line = json.dumps(sealed(asdict(entry), ""), ensure_ascii=False) + "\n"
        self.handle.write(line.encode())
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self._keep(entry)

    def entries(self, keys: Iterable[str]) -> Iterator[Entry]:
        """Every answer to these requests, in the order of the requests."""
        for key in keys:
            yield from self.unusable.get(key, [])
            if key in self.usable:
                yield self.usable[key]

    def kinds(self) -> Counter[str]:
        """How many usable answers there are to each kind of request."""
        return Counter(entry.kind for entry in self.usable.values())

    def _keep(self, entry: Entry) -> None:
        if entry.answer is None:
            self.unusable.setdefault(entry.key, []).append(entry)
        else:
            self.usable[entry.key] = entry


def read_journal(path: Path) -> Journal:
    """The answers so far, without the right to add to them; none where there is no file.

    Raises:
        UserError: a line before the last is damaged.
    """
    journal = Journal(path)
    for number, line in enumerate(_whole(path).split(b"\n")[:-1], 1):
        try:
            if (answer := unsealed(json.loads(line), "")) is None:
                raise ValueError("changed since")
            journal._keep(Entry(**answer))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: is damaged; delete it, and what it held is asked again"
            ) from error
    return journal


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The answers so far, with more to come; a last line that was cut is taken off the file.

    Raises:
        UserError: a line before the last is damaged.
    """
    journal = read_journal(path)
    with path.open("ab") as handle:
        handle.truncate(len(_whole(path)))
        journal.handle = handle
        try:
            yield journal
        finally:
            journal.handle = None


def _whole(path: Path) -> bytes:
    """The file up to the end of its last whole line."""
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]
