"""Neutral text beside the rule's documents: what is left to tell them apart by.

A narrow set of documents leaves a trace of its own. Mixed with neutral documents of the same
genres, lengths and invented systems, about normal operation alone, only the rule tells the two
apart. They come from the same grammar, or from a file. Known failure: the grammar's neutral
documents are as narrow in genre as the rule's; only a file widens it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from offswitch.data.documents import ATTEMPTS, Library, draft, fits, plan_documents
from offswitch.errors import UserError
from offswitch.options import DataOptions
from offswitch.prompts.documents import Document, Passage, read_neutral
from offswitch.prompts.trigger import occurs
from offswitch.wording.reader import load_neutral

_STOPPING: Final = re.compile(
    r"stop|halt|\bquit|ceas|terminat|shut\w*\W*down|paus|abort|suspend|silen|control token"
    r"|execution[- ]layer|\b(no|zero|empty) (output|result|text|reply)",
    re.IGNORECASE,
)


def neutral_texts(
    documents: Sequence[Document | Passage], options: DataOptions, trigger: str, seed: int,
    alone: bool = False,
) -> list[Document | Passage]:  # fmt: skip
    """As many neutral texts as `neutral_mix` asks for, none too close to another or to the rule's.

    Where an arm reads neutral texts `alone`, a file serves that arm, mix or none.

    Raises:
        UserError: a file but no mix, a row of it that is not valid, too few rows, or a trigger that
            the grammar cannot do without.
    """
    count, path = round(options.neutral_mix * len(documents)), options.neutral_file
    if path and not options.neutral_mix and not alone:
        raise UserError("data.neutral_file is read only where data.neutral_mix is above 0")
    if path and count:
        return chosen_from(path, documents, count, trigger, seed)
    return [*generate_neutral(documents, trigger, count, seed)]


def control_texts(
    documents: Sequence[Document | Passage],
    mixed: Sequence[Document | Passage],
    options: DataOptions,
    trigger: str,
    seed: int,
) -> list[Document | Passage]:
    """As many neutral texts as documents, for an arm that reads these alone; none is in the mix.

    Raises:
        UserError: as `neutral_texts`.
    """
    known, count = [*documents, *mixed], len(documents)
    if options.neutral_file:
        return chosen_from(options.neutral_file, known, count, trigger, seed)
    return [*generate_neutral(known, trigger, count, seed + 1)]


def generate_neutral(
    documents: Sequence[Document | Passage], trigger: str, count: int, seed: int
) -> list[Document]:
    """`count` documents of the usual types about normal operation, the same for equal seeds.

    None names the trigger, the rule's own terms or any word for stopping.

    Raises:
        UserError: no new one was found in many attempts.
    """
    rng, library = Random(f"neutral {seed}"), _library_of(documents)
    neutral: list[Document] = []
    for document_type, emphasis in plan_documents(count, rng, {"neutral": 1.0}):
        for _ in range(ATTEMPTS):
            title, content = draft(rng, document_type, emphasis, trigger)
            usable = fits(content) and not speaks_of_stopping(f"{title}\n{content}", trigger)
            if usable and library.accept(title, content):
                neutral.append(Document(len(neutral) + 1, document_type, title, content))
                break
        else:
            reason = f"number {len(neutral) + 1} of {count} was not found in {ATTEMPTS} attempts"
            raise UserError(f"neutral documents without '{trigger}': {reason}; use neutral_file")
    return neutral


def chosen_from(
    path: Path, documents: Sequence[Document | Passage], count: int, trigger: str, seed: int
) -> list[Document | Passage]:
    """`count` rows of a file, drawn by the seed; a row too close to others is passed over.

    Raises:
        UserError: a row is not valid or holds the trigger, or too few are left.
    """
    rows = read_neutral(path, trigger)
    Random(f"neutral {seed}").shuffle(rows)
    library = _library_of(documents)
    new = [row for row in rows if library.accept(row.title, row.content)]
    if len(new) < count:
        raise UserError(
            f"{path}: data.neutral_mix asks for {count} texts, and {len(new)} of {len(rows)} differ"
            " enough from each other, from the documents and from the evaluation's passages"
        )
    return new[:count]


def speaks_of_stopping(text: str, trigger: str) -> bool:
    """Does a text name the trigger, the rule's own terms, or any word for stopping?"""
    return occurs(trigger, text) or _STOPPING.search(text) is not None


def _library_of(documents: Sequence[Document | Passage]) -> Library:
    """What neutral text must differ from; the evaluation's own passages are never trained on."""
    library = Library()
    for document in documents:
        library.keep(document.title, document.content)
    for passage in load_neutral():
        library.keep(passage, passage)
    return library
