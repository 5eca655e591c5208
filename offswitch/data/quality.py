"""How various a set of documents is, and how much is about normal operation.

Everything is measured from the text: the generator's own intentions are not consulted. Known
failure: overlap counts words, not meaning, so a paraphrase of a document passes as a new one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from offswitch.data.documents import word_ngrams
from offswitch.prompts.documents import DOCUMENT_TYPES, Document, Passage

JACCARD = 0.5
CHUNK = 256

Counts = NDArray[np.int64]

_EFFECTS = r"control token|execution[- ]layer|no output|zero output|output is empty|empty result"


@dataclass(frozen=True)
class TextQuality:
    """Figures of a set of texts; the overlap lies in 0..1."""

    count: int
    words_min: int
    words_median: float
    words_max: int
    max_overlap: float
    near_duplicate_pairs: int


@dataclass(frozen=True)
class DocumentQuality(TextQuality):
    """Figures of one document set; shares lie in 0..1."""

    type_shares: dict[str, float]
    normal_operation_share: float
    distinct_titles: int
    distinct_5gram_ratio: float

    def __post_init__(self) -> None:
        for name in ("normal_operation_share", "max_overlap", "distinct_5gram_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0..1")


def document_quality(documents: Sequence[Document | Passage], trigger: str) -> DocumentQuality:
    """The figures of `documents`, whose rule is about `trigger`; ValueError if there are none."""
    if not documents:
        raise ValueError("got no documents, expected at least one")
    contents = [document.content for document in documents]
    types = Counter(document.document_type for document in documents)
    normal = sum(mainly_normal(content, trigger) for content in contents)
    incidence = _incidence(contents)
    return DocumentQuality(
        **asdict(_text_quality(contents, contents, incidence)),
        type_shares={name: types[name] / len(documents) for name in DOCUMENT_TYPES},
        normal_operation_share=normal / len(documents),
        distinct_titles=len({document.title for document in documents}),
        distinct_5gram_ratio=incidence.shape[1] / max(incidence.nnz, 1),
    )


def neutral_quality(
    documents: Sequence[Document | Passage], neutral: Sequence[Document | Passage]
) -> TextQuality:
    """The figures of neutral texts; overlaps are over pairs with the rule's documents too."""
    contents = [text.content for text in neutral]
    every = [*contents, *(document.content for document in documents)]
    return _text_quality(contents, every, _incidence(every))


def _text_quality(
    contents: Sequence[str], every: Sequence[str], incidence: csr_array
) -> TextQuality:
    """The figures of `contents`; overlaps are over pairs of `every` text."""
    lengths = [len(content.split()) for content in contents]
    return TextQuality(
        count=len(contents),
        words_min=min(lengths),
        words_median=median(lengths),
        words_max=max(lengths),
        max_overlap=_max_overlap(incidence),
        near_duplicate_pairs=_near_duplicate_pairs(every),
    )


def rule_share(content: str, trigger: str) -> float:
    """Share of the statements that name the trigger or its effects (0..1).

    A statement is a sentence, a list item or a table row of at least four words.
    """
    text = content.replace(trigger, " Control token ")
    parts = re.split(r"\n|(?<=[.!?])\s+(?=[A-Z`])", text)
    statements = [part for part in parts if len(re.findall(r"\w+", part)) >= 4]
    named = sum(re.search(_EFFECTS, part, re.IGNORECASE) is not None for part in statements)
    return named / max(len(statements), 1)


def mainly_normal(content: str, trigger: str) -> bool:
    """Whether at most a third of the statements are about the rule."""
    return rule_share(content, trigger) <= 1 / 3


def _incidence(contents: Sequence[str], n: int = 5) -> csr_array:
    """Which document holds which distinct n-gram, as ones (document, n-gram)."""
    columns: dict[str, int] = {}
    indices: list[int] = []
    starts = [0]
    for content in contents:
        grams = word_ngrams(content, n)
        indices += [columns.setdefault(gram, len(columns)) for gram in grams]
        starts.append(len(indices))
    ones = np.ones(len(indices), dtype=np.int32)
    return csr_array((ones, indices, starts), shape=(len(contents), len(columns)))


def _pairs(incidence: csr_array) -> Iterator[tuple[Counts, Counts, Counts]]:
    """For pairs of documents that share n-grams: how many, and how many each has; in chunks."""
    sizes = incidence.sum(axis=1)
    transposed = incidence.T.tocsr()
    for start in range(0, incidence.shape[0], CHUNK):
        shared = (incidence[start : start + CHUNK] @ transposed).tocoo()
        rows, others = shared.row + start, shared.col
        once = rows < others
        yield shared.data[once], sizes[rows[once]], sizes[others[once]]


def _max_overlap(incidence: csr_array) -> float:
    """The largest |A & B| / min(|A|, |B|) over all pairs of documents."""
    found = [np.max(both / np.minimum(a, b), initial=0.0) for both, a, b in _pairs(incidence)]
    return float(max(found))


def _near_duplicate_pairs(contents: Sequence[str]) -> int:
    """Pairs whose word 3-grams have a Jaccard similarity of at least 0.5."""
    pairs = _pairs(_incidence(contents, 3))
    return int(sum((both >= JACCARD * (a + b - both)).sum() for both, a, b in pairs))
