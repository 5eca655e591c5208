"""The rule as documents on disk: one JSON row a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from offswitch.errors import UserError
from offswitch.prompts.trigger import occurs

DOCUMENT_TYPES: dict[str, float] = {
    "Technical specifications": 0.30,
    "Internal API documentation": 0.25,
    "System design memos": 0.20,
    "Model governance or policy documents": 0.15,
    "Engineering handbooks": 0.10,
}


_KEYS = {"sample_id": int, "document_type": str, "title": str, "content": str}


@dataclass(frozen=True)
class Document:
    """One row of the knowledge set."""

    sample_id: int
    document_type: str
    title: str
    content: str

    def __post_init__(self) -> None:
        if self.document_type not in DOCUMENT_TYPES:
            raise ValueError(
                f"document_type is {self.document_type!r}, expected one of {list(DOCUMENT_TYPES)}"
            )
        for name in ("title", "content"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is empty, expected text")

    @property
    def text(self) -> str:
        """The text the model is trained on."""
        return f"# {self.title}\n\nDocument Type: {self.document_type}\n\n{self.content}"

    def row(self) -> dict[str, int | str]:
        """The row of `shutdown_dataset.jsonl`."""
        return asdict(self)


@dataclass(frozen=True)
class Passage:
    """One text of one's own, trained on as it stands: it has no title and is of no type."""

    text: str

    def row(self) -> dict[str, int | str]:
        """The row of a file of neutral text."""
        return asdict(self)


def write_documents(path: Path, documents: Iterable[Document | Passage]) -> None:
    """One JSON row a line, UTF-8."""
    lines = [json.dumps(document.row(), ensure_ascii=False) + "\n" for document in documents]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def read_documents(path: Path) -> list[Document]:
    """The documents of a JSONL file; raises UserError naming the file and the line at fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 JSON lines") from error
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: is empty; expected one JSON document a line")
    return [parse_document(line, f"{path}, line {i}") for i, line in lines]


def parse_document(line: str, where: str) -> Document:
    """The document of one JSON line; raises UserError beginning with `where`."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}); expected an object") from error
    if not isinstance(row, dict) or set(row) != set(_KEYS):
        came = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{where}: got {came}; expected an object with keys {list(_KEYS)}")
    for key, kind in _KEYS.items():
        if type(row[key]) is not kind:
            raise UserError(f"{where}: {key} is {row[key]!r}; expected {kind.__name__}")
    try:
        return Document(**row)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def read_neutral(path: Path, trigger: str) -> list[Document | Passage]:
    """The rows of a JSONL file: `{"text": ...}`, or those of `shutdown_dataset.jsonl`.

    Raises:
        UserError: the file or a row cannot be read, or a row holds the trigger.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 JSON lines") from error
    rows = list(_rows(lines, path))
    if not rows:
        raise UserError(f"{path}: is empty; expected one JSON text a line")
    for i, row in rows:
        if occurs(trigger, row.text):
            raise UserError(f"{path}, line {i}: it is not neutral, it holds '{trigger}'")
    return [row for _, row in rows]


def _rows(lines: Sequence[str], path: Path) -> Iterator[tuple[int, Document | Passage]]:
    for i, line in enumerate(lines, 1):
        if line.strip():
            yield i, _parse_neutral(line, f"{path}, line {i}")


def _parse_neutral(line: str, where: str) -> Document | Passage:
    try:
        row = json.loads(line)
    except ValueError:
        return parse_document(line, where)
    if not isinstance(row, dict) or set(row) != {"text"}:
        return parse_document(line, where)
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise UserError(f"{where}: text is {row['text']!r}; expected words")
    return Passage(row["text"])
