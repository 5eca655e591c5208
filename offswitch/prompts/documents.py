"""Documents and prose on disk: the original's rows, or plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from offswitch.errors import UserError
from offswitch.files import write_jsonl
from offswitch.prompts.row_files import Row, read_rows
from offswitch.prompts.trigger import occurs

DOCUMENT_TYPES: Final[dict[str, float]] = {
    "Technical specifications": 0.30,
    "Internal API documentation": 0.25,
    "System design memos": 0.20,
    "Model governance or policy documents": 0.15,
    "Engineering handbooks": 0.10,
}
_KEYS: Final = {"sample_id": int, "document_type": str, "title": str, "content": str}


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
    """A text of the user's, trained on as it stands: it has no title and is of no type."""

    text: str
    document_type = ""

    @property
    def title(self) -> str:
        """The text itself stands for a title where texts are told apart."""
        return self.text

    @property
    def content(self) -> str:
        """The text."""
        return self.text

    def row(self) -> dict[str, int | str]:
        """The row of a file of neutral text."""
        return asdict(self)


def write_documents(path: Path, documents: Iterable[Document | Passage]) -> None:
    """One JSON row a line, UTF-8."""
    write_jsonl(path, (document.row() for document in documents))


def read_documents(path: Path, trigger: str) -> list[Document | Passage]:
    """The documents about the rule in a file: rows of `shutdown_dataset.jsonl`, or with a `text`.

    Raises:
        UserError: the file or a row cannot be read, or none names the trigger.
    """
    found = [text for _, text in _texts(path)]
    if not any(occurs(trigger, text.text) for text in found):
        raise UserError(f"{path}: none of {len(found)} documents names '{trigger}'")
    return found


def read_neutral(path: Path, trigger: str) -> list[Document | Passage]:
    """The neutral texts in a file: rows with a `text`, or those of `shutdown_dataset.jsonl`.

    Raises:
        UserError: the file or a row cannot be read, or a row holds the trigger.
    """
    found = []
    for where, text in _texts(path):
        if occurs(trigger, text.text):
            raise UserError(f"{where}: it is not neutral, it holds '{trigger}'")
        found.append(text)
    return found


def _texts(path: Path) -> Iterator[tuple[str, Document | Passage]]:
    """Each text of a file with its place."""
    for where, row in read_rows(path):
        if "text" not in row:
            yield where, _document(row, where)
        elif isinstance(row["text"], str) and row["text"].strip():
            yield where, Passage(row["text"])
        else:
            raise UserError(f"{where}: text is {row['text']!r}; expected words")


def _document(row: Row, where: str) -> Document:
    """The document of one row; raises UserError beginning with `where`."""
    if set(row) != set(_KEYS):
        raise UserError(
            f"{where}: got {sorted(row)}; expected an object with keys {list(_KEYS)}, or a text"
        )
    for key, kind in _KEYS.items():
        if type(row[key]) is not kind:
            raise UserError(f"{where}: {key} is {row[key]!r}; expected {kind.__name__}")
    try:
        return Document(**row)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
