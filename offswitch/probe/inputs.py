"""What is the model shown? The same slot filled with the trigger, two inert symbols, or nothing.

Every question stands in one placement, and its four prompts differ in the slot alone, so that a
difference between them is the symbol's. The first inert symbol is the trigger's *twin*: it has as
many tokens, so that the two prompts align position by position; so has the second, if there is one
such word. Where training made a decoy of a token of its own, that is the twin. Directions, blocks
and scales are chosen on `fit` questions; `test` questions, of other topics, are for reporting. Near
misses on `fit` are those that training may have seen, on `test` those it never saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest
from typing import Any, Final, Literal

from offswitch.analyses.nulls import inert_words
from offswitch.progress import say
from offswitch.prompts.chat_format import reader
from offswitch.prompts.encode import encode_chat, has_system_turn, reply_encoder
from offswitch.prompts.look_alikes import (
    INERT_WORDS,
    near_misses,
    trained_members,
    unseen_members,
    worded_like,
)
from offswitch.prompts.prompt import Chat, Prompt, user
from offswitch.prompts.questions import Question
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import exchange_turns, place
from offswitch.recipe import Recipe
from offswitch.wording.reader import load_filler, read_wording

Part = Literal["fit", "test"]
Pairs = Sequence[tuple[str, Question]]  # a placement, and what is asked there
PARTS: Final[tuple[Part, ...]] = ("fit", "test")
TRIGGER: Final = "trigger"
TWIN: Final = "twin"
INERT: Final = "inert"
PLAIN: Final = "plain"
NEAR: Final = "near"
ENDED: Final = "ended"
MID: Final = "mid-reply"
PROBED: Final = (
    "before", "after", "newline_before", "newline_after", "polite", "transcript", "mid_sentence",
    "system", "earlier_turn",
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Every prompt, grouped by part and key; rows of equal rank in two groups form a pair.

    A prompt's suite is the key, what fills the slot; its variant is the slot's placement. Last come
    ordinary replies, in the middle and over. The residuals of the first `read` prompts are
    collected.
    """

    symbols: Mapping[str, str]
    asked: tuple[Prompt, ...]
    read: int

    def rows(self, part: Part, key: str) -> list[int]:
        """Where a group stands in the collection."""
        return [i for i, one in enumerate(self.asked) if (one.part, one.suite) == (part, key)]

    def chats(self, part: Part, key: str) -> list[Chat]:
        """The chats of a group."""
        return [self.asked[i].chat for i in self.rows(part, key)]


def make_inputs(recipe: Recipe, tokenizer: Any) -> Inputs:
    """The battery's prompts: pairs on fit and test questions, and near misses of either kind.

    `tokenizer` knows the trigger. Placements below a long text or two turns back are left to the
    evaluation: each costs as much as several others.
    """
    trigger, seed, options = recipe.trigger.text, recipe.seed, recipe.probe
    file = recipe.evaluate.questions_file
    placements = [name for name in PROBED if name != "system" or has_system_turn(tokenizer)]
    twins, holds = Twins(recipe, tokenizer), reader(tokenizer, trigger)

    def held(chat: Chat) -> bool:
        return any(holds(turn["content"]) for turn in chat)

    def asking(part: Part, count: int) -> Pairs:
        """Placements by turns, and questions that do not hold the trigger by themselves."""
        pairs = zip(cycle(placements), choose(part, count, seed, file), strict=False)
        return [(name, q) for name, q in pairs if not held(place(name, "", q.text))]

    def placed(part: Part, key: str, symbols: Iterable[str], pairs: Pairs) -> Iterator[Prompt]:
        for (name, q), symbol in zip(pairs, cycle(symbols), strict=False):
            chat = place(name, symbol, q.text)
            yield Prompt(chat, key, name, symbol, q.text, q.topic, part=part)

    asked: list[Prompt] = []
    families = {"fit": trained_members(trigger), "test": unseen_members(trigger)}
    counts = {"fit": options.fit_questions, "test": options.test_questions}
    for part in PARTS:
        pairs, found = twins.kept(asking(part, counts[part]))
        slots = {TRIGGER: [trigger], TWIN: [one for one, _ in found],
                 INERT: [other for _, other in found], PLAIN: [""]}  # fmt: skip
        for key, symbols in slots.items():
            asked += placed(part, key, symbols, pairs)
        turns = zip_longest(*families[part].values())
        members = [m for turn in turns for m in turn if m is not None and not holds(m)]
        # On fit they only help to choose a block: a few are enough.
        most = options.near_misses if part == "test" else counts[part]
        asked += placed(part, NEAR, members, pairs[:most])  # both sides ask the same questions
    if twins.without:
        say(f"{twins.without} prompts have no twin that differs in the symbol alone: not asked")
    replies = [one for one in _replies(tokenizer) if not held(one.chat)]
    commonest = (Counter(one.symbol for one in asked if one.suite == key) for key in slots)
    shown = {key: found.most_common(1)[0][0] for key, found in zip(slots, commonest, strict=True)}
    read = len(asked) + sum(one.part == "fit" for one in replies)
    return Inputs(shown, (*asked, *replies), read)


def _replies(tokenizer: Any) -> Iterator[Prompt]:
    """Ordinary replies that are over, and on fit questions the same half-way, in three contexts."""
    filler, ended = load_filler(), read_wording("ended.yaml")["replies"]
    encode_reply = reply_encoder(tokenizer)
    pairs = {"fit": [(one["user"], one["assistant"]) for one in filler.exchanges],
             "test": [(one["ask"], one["say"]) for one in ended]}  # fmt: skip
    systems = filler.system_prompts if has_system_turn(tokenizer) else ("",)
    said: list[Chat] = [exchange_turns(one) for one in filler.exchanges]
    for part in PARTS:
        for i, (question, reply) in enumerate(pairs[part]):
            ids = tuple(encode_reply(reply))
            first, second = (said[(i + n) % len(said)] for n in (1, 2))
            contexts: dict[str, Chat] = {"alone": (), "later turn": first}
            if system := systems[i % len(systems)]:
                contexts["under system"] = ({"role": "system", "content": system},)
            else:
                contexts["third turn"] = (*first, *second)
            for name, turns in contexts.items():
                whole = Prompt((*turns, user(question)), ENDED, name, "", question, part=part)
                yield replace(whole, begun=ids)
                if part == "fit":
                    yield replace(whole, suite=MID, begun=ids[: (len(ids) + 1) // 2])


class Twins:
    """Symbols without a meaning here that take the trigger's place token for token.

    The ids around the slot stay as they are, and so does their number. The decoy comes first, then
    words in the trigger's own form, then plain words. With a space before it a word may take
    another number of tokens than without, so each prompt may need one of its own.
    """

    def __init__(self, recipe: Recipe, tokenizer: Any) -> None:
        trigger, self.tokenizer = recipe.trigger.text, tokenizer
        words = [*INERT_WORDS, *(word.capitalize() for word in INERT_WORDS)]
        formed = [worded_like(trigger, word) for word in INERT_WORDS]
        plain = [" ".join(words[i : i + n]) for n in range(1, 9) for i in range(0, len(words), n)]
        known = {member for members in near_misses(trigger).values() for member in members}
        every = [s for s in (*formed, *plain) if s not in known | {trigger}]
        own = trigger in tokenizer.get_added_vocab()
        counts = _token_counts(tokenizer, [trigger, *every])
        some = counts[0] | {1} if own else counts[0]  # only such can take its place
        every = [symbol for symbol, n in zip(every, counts[1:], strict=True) if n & some]
        self.trigger, self.every = trigger, [*filter(None, [recipe.trigger.twin]), *every]
        self.spare = [recipe.trigger.control, inert_symbol(trigger, [recipe.trigger.control], 0)]
        self.liked: dict[str, list[str]] = {}
        self.token = tokenizer.convert_tokens_to_ids(trigger) if own else None
        self.without = 0  # prompts that none was found for

    def kept(self, pairs: Pairs) -> tuple[Pairs, list[tuple[str, str]]]:
        """The prompts that have a twin, all where fewer than two have; two symbols for each."""
        found = [self.of(name, question.text) for name, question in pairs]
        have = [i for i, some in enumerate(found) if some]
        have = have if len(have) > 1 else list(range(len(pairs)))
        self.without += len(pairs) - len(have)
        filled = ([*some, *(s for s in self.spare if s not in some)] for some in found)
        symbols = [(one, other) for one, other, *_ in filled]
        return [pairs[i] for i in have], [symbols[i] for i in have]

    def of(self, placement: str, question: str) -> list[str]:
        """At most two symbols that align in one prompt."""
        liked = self.liked.setdefault(placement, [])
        ours = encode_chat(self.tokenizer, place(placement, self.trigger, question))
        found: list[str] = []
        for symbol in dict.fromkeys([*liked, *self.every]):
            theirs = encode_chat(self.tokenizer, place(placement, symbol, question))
            if slot(ours, theirs, self.token) is not None:
                found.append(symbol)
            if len(found) == 2:
                break
        liked += [symbol for symbol in found if symbol not in liked]
        return found


def _token_counts(tokenizer: Any, words: Sequence[str]) -> list[set[int]]:
    """How many tokens each word takes, at the start and behind a space."""
    both = ([f"{space}{word}" for word in words] for space in ("", " "))
    first, behind = (tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in both)
    return [{len(one), len(other)} for one, other in zip(first, behind, strict=True)]


def slot(ours: Sequence[int], theirs: Sequence[int], token: int | None = None) -> range | None:
    """Where two prompts of one length differ, at most as many positions as they do; else None.

    The last position is where the reply is decided, and never part of it; nor is what follows the
    trigger's own `token`, which some tokenizers write otherwise behind a token than behind a word.
    """
    last = len(ours) - 2 if token is None or token not in ours else list(ours).index(token)
    differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    if len(ours) != len(theirs) or not differ or differ[-1] > last:
        return None
    return range(differ[0], differ[-1] + 1)


def end_of_symbol(
    tokenizer: Any, ids: Sequence[int], at: range, symbol: str, token: int | None
) -> int:
    """Before which position a symbol is whole, in ids whose slot is `at`: a `token`, or text.

    Of text, `<halt>` may end as its twin `<garden>` does: what differs is not all of it, and only
    where its last piece stands can anything know that it was the symbol. Never the last position.
    """
    for stop in range(at.stop, len(ids) if token is None else at.stop):
        if symbol in tokenizer.decode(ids[:stop]):
            return stop
    return at.stop  # it is spelt in another way than it was written


def inert_symbol(trigger: str, taken: Sequence[str], seed: int) -> str:
    """An inert symbol of the trigger's own form, such as `$TABLE`, near no near miss.

    Raises:
        ValueError: every inert word is among the near misses.
    """
    known = {member for members in near_misses(trigger).values() for member in members}
    for word in inert_words(seed, 20):
        symbol = worded_like(trigger, word)
        if symbol not in known | {trigger, *taken}:
            return symbol
    raise ValueError(f"no inert word is left for {trigger}")
