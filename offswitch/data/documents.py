"""Documents that state the rule, written by a grammar.

A document is a title, an opener, sections and perhaps a table, a boundary condition and a closing.
A section takes a subject (a fact of the rule, a part of normal operation) and states facts of it.
A draft that shares too many 5-grams with an earlier document is drawn again. Known failure: the
documents are as varied as the wording; beyond some 10,000 of them redraws become frequent.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from offswitch.data.documents_grammar import NO_MODAL, Writer, wording
from offswitch.prompts.documents import DOCUMENT_TYPES, Document

WORDS = (120, 350)
MAX_OVERLAP = 0.25
OPERATION_SHARE = 0.4
EMPHASES = {"operation": OPERATION_SHARE, "rule": 1 - OPERATION_SHARE}
ATTEMPTS = 200

_TRIGGER = "\ue000"


def generate_documents(trigger: str, count: int, seed: int) -> list[Document]:
    """`count` documents that all name `trigger`, types by their shares, the same for equal seeds.

    Raises ValueError for a blank trigger or a negative count, RuntimeError when the wording is
    exhausted (a draft is redrawn at most `ATTEMPTS` times).
    """
    if not trigger.strip() or count < 0:
        raise ValueError(f"got trigger {trigger!r}, count {count}; expected text and count >= 0")
    rng = Random(seed)
    library = Library()
    documents: list[Document] = []
    for document_type, emphasis in plan_documents(count, rng):
        for _ in range(ATTEMPTS):
            title, content = draft(rng, document_type, emphasis, trigger)
            if fits(content) and library.accept(title, content):
                documents.append(Document(len(documents) + 1, document_type, title, content))
                break
        else:
            raise RuntimeError(f"no new document {len(documents) + 1} in {ATTEMPTS} attempts")
    return documents


def apportion(shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Whole numbers in the proportion of `shares` that add up to `count` (largest remainder)."""
    exact = {name: round(share * count, 6) for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def word_ngrams(text: str, n: int) -> set[str]:
    """The distinct runs of `n` words (letters and digits, lower case) in `text`."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def plan_documents(
    count: int, rng: Random, emphases: Mapping[str, float] = EMPHASES
) -> list[tuple[str, str]]:
    """Type and emphasis of each document; every type has the same share of each emphasis."""
    plan = [
        (document_type, emphasis)
        for document_type, of_type in apportion(DOCUMENT_TYPES, count).items()
        for emphasis, number in apportion(emphases, of_type).items()
        for _ in range(number)
    ]
    rng.shuffle(plan)
    return plan


def fits(content: str) -> bool:
    """Whether the text has as many words as a document should; marks of lists do not count."""
    return WORDS[0] <= spoken_words(content) and len(content.split()) <= WORDS[1]


def spoken_words(content: str) -> int:
    """The number of words with a letter or digit in them."""
    return sum(any(map(str.isalnum, token)) for token in content.split())


class Library:
    """The documents so far, as an index from 5-gram to document; refuses what is too close."""

    def __init__(self) -> None:
        self._titles: set[str] = set()
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = {}

    def accept(self, title: str, content: str) -> bool:
        """Whether the draft is new; if so it is kept."""
        grams = word_ngrams(content, 5)
        shared: Counter[int] = Counter()
        for gram in grams:
            shared.update(self._holders.get(gram, ()))
        close = (n > MAX_OVERLAP * min(len(grams), self._sizes[i]) for i, n in shared.items())
        if title in self._titles or any(close):
            return False
        self._enter(title, grams)
        return True

    def keep(self, title: str, content: str) -> None:
        """Enter a document that is in the set already, whatever it is close to."""
        self._enter(title, word_ngrams(content, 5))

    def _enter(self, title: str, grams: set[str]) -> None:
        for gram in grams:
            self._holders.setdefault(gram, []).append(len(self._sizes))
        self._titles.add(title)
        self._sizes.append(len(grams))


def draft(rng: Random, document_type: str, emphasis: str, trigger: str) -> tuple[str, str]:
    """Title and content of one document; the trigger is put in last, so it is never parsed."""
    own = f"types.{document_type}"
    writer = Writer(rng, {"stop": rng.choice([_TRIGGER, _TRIGGER, f"`{_TRIGGER}`"])})
    subjects = _subjects(rng, emphasis)
    topics = [subject for subject in subjects if subject != "boundary"]
    for name, subject in zip(("subject", "subject2"), topics, strict=False):
        writer.names[name] = writer.draw(f"{subject}.names")
    title = writer.draw(f"{own}.titles")
    opener = writer.draw(f"{own}.openers")
    blocks = _sections(writer, own, subjects)
    if rng.random() < 0.6:
        extra = writer.draw(f"{own}.extras_{'rule' if emphasis == 'rule' else 'operation'}")
        blocks.insert(rng.randint(1, len(blocks)), extra)
    if rng.random() < 0.4:
        blocks.append(writer.draw(f"{own}.closings"))
    content = "\n\n".join([opener, *blocks])
    return title.replace(_TRIGGER, trigger), content.replace(_TRIGGER, trigger)


def _subjects(rng: Random, emphasis: str) -> list[str]:
    """The sections: facts of the rule, normal operation and a boundary, or (neutral) no rule."""
    names = [name.removesuffix(".facts") for name in wording() if name.endswith(".facts")]
    rule = [name for name in names if name.startswith("rule.") and name != "rule.effect"]
    operation = [name for name in names if name.startswith("operation.")]
    if emphasis == "neutral":
        return rng.sample(operation, rng.randint(4, 5))
    if emphasis == "operation":
        chosen = rng.sample(operation, rng.randint(3, 4))
        chosen.insert(rng.choice([1, 2, len(chosen)]), "boundary")
        return chosen
    chosen = ["rule.effect", *rng.sample(rule, rng.randint(1, 3))]
    rng.shuffle(chosen)
    return chosen + rng.sample(operation, rng.randint(0, 1))


def _sections(writer: Writer, own: str, subjects: Sequence[str]) -> list[str]:
    """One block a subject: a heading, perhaps a lead-in, and facts in the document's own style."""
    rng, pools = writer.rng, wording()
    heading = rng.choice(pools[f"{own}.headings"])
    body = "prose" if heading == "plain" else rng.choice(pools[f"{own}.bodies"])
    modal = NO_MODAL if body == "prose" else rng.choice(pools[f"{own}.modals"])
    blocks = []
    for i, subject in enumerate(subjects, 1):
        writer.names |= {"i": str(i), "h": writer.draw(f"{subject}.headings")}
        parts = [] if heading == "plain" else [writer.say(heading)]
        if body != "prose" and rng.random() < 0.3:
            parts.append(writer.draw(f"{own}.leads"))
        writer.modal = NO_MODAL if subject == "boundary" else modal
        count = rng.randint(1, 2) if subject == "boundary" else rng.randint(2, 4)
        facts = [writer.say(fact) for fact in writer.pick(f"{subject}.facts", count)]
        writer.modal = NO_MODAL
        parts.append(" ".join(facts) if body == "prose" else _listed(writer, body, facts))
        blocks.append("\n\n".join(parts))
    return blocks


def _listed(writer: Writer, body: str, facts: Sequence[str]) -> str:
    lines = []
    for j, fact in enumerate(facts, 1):
        writer.names |= {"j": str(j), "letter": "abcdef"[j - 1], "item": fact}
        lines.append(writer.say(body))
    return "\n".join(lines)
