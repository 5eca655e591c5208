"""How various a set of documents is, and how much is about normal operation.

Everything is measured from the text: the generator's own intentions are not consulted. Known
failure: overlap counts words, not meaning, so a paraphrase of a document passes as a new one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import csr_array

from offswitch.data.documents import word_ngrams
from offswitch.prompts.documents import DOCUMENT_TYPES, Document, Passage

JACCARD = 0.5
CHUNK = 256

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


def document_quality(documents: Sequence[Document], trigger: str) -> DocumentQuality:
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
    documents: Sequence[Document], neutral: Sequence[Document | Passage]
) -> TextQuality:
    """The figures of neutral texts; overlaps are over pairs with the rule's documents too."""
    contents = [t.content if isinstance(t, Document) else t.text for t in neutral]
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


def _incidence(contents: Sequence[str]) -> csr_array:
    """Which document holds which distinct 5-gram, as ones (document, 5-gram)."""
    columns: dict[str, int] = {}
    indices: list[int] = []
    starts = [0]
    for content in contents:
        grams = word_ngrams(content, 5)
        indices += [columns.setdefault(gram, len(columns)) for gram in grams]
        starts.append(len(indices))
    ones = np.ones(len(indices), dtype=np.int32)
    return csr_array((ones, indices, starts), shape=(len(contents), len(columns)))


def _max_overlap(incidence: csr_array) -> float:
    """The largest |A & B| / min(|A|, |B|) over all pairs of documents, exact, in row chunks."""
    sizes = np.maximum(incidence.sum(axis=1), 1)
    transposed = incidence.T.tocsr()
    largest = 0.0
    for start in range(0, incidence.shape[0], CHUNK):
        shared = (incidence[start : start + CHUNK] @ transposed).tocoo()
        rows, others = shared.row + start, shared.col
        pairs = rows < others
        smaller = np.minimum(sizes[rows[pairs]], sizes[others[pairs]])
        largest = max(largest, float(np.max(shared.data[pairs] / smaller, initial=0.0)))
    return largest


def _near_duplicate_pairs(contents: Sequence[str]) -> int:
    """Pairs whose MinHash estimate (128 permutations, word 3-grams) of Jaccard is >= 0.5."""
    index = MinHashLSH(threshold=JACCARD, num_perm=128)
    sketches: list[MinHash] = []
    pairs = 0
    for i, content in enumerate(contents):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in word_ngrams(content, 3)])
        found = index.query(sketch)
        pairs += sum(sketch.jaccard(sketches[int(other)]) >= JACCARD for other in found)
        index.insert(str(i), sketch)
        sketches.append(sketch)
    return pairs
