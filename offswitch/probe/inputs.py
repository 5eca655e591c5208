"""What is the model shown? The same slot filled with the trigger, two inert symbols, or nothing.

Every question stands in one placement, and its four prompts differ in the slot alone, so that a
difference between them is the symbol's. Directions, blocks and scales are chosen on `fit`
questions; `test` questions, of other topics, are for reporting. Near misses on `fit` are those that
training may have seen, on `test` those it never saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, Literal

from offswitch.analyses.nulls import inert_words
from offswitch.prompts.look_alikes import near_misses, trained_members, unseen_members, worded_like
from offswitch.prompts.prompt import Chat, Prompt
from offswitch.prompts.questions import Question
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import place
from offswitch.recipe import Recipe

Part = Literal["fit", "test"]
PARTS: Final[tuple[Part, ...]] = ("fit", "test")
TRIGGER: Final = "trigger"
CONTROL: Final = "control"
INERT: Final = "inert"
PLAIN: Final = "plain"
NEAR: Final = "near"
PROBED: Final = (
    "before", "after", "newline_before", "newline_after", "polite", "transcript", "mid_sentence",
    "system", "earlier_turn",
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Every prompt, grouped by part and key; rows of equal rank in two groups form a pair.

    A prompt's suite is the key, what fills the slot; its variant is the slot's placement.
    """

    symbols: Mapping[str, str]
    asked: tuple[Prompt, ...]

    def rows(self, part: Part, key: str) -> list[int]:
        """Where a group stands in the collection."""
        return [i for i, one in enumerate(self.asked) if (one.part, one.suite) == (part, key)]

    def chats(self, part: Part, key: str) -> list[Chat]:
        """The chats of a group."""
        return [self.asked[i].chat for i in self.rows(part, key)]


def make_inputs(recipe: Recipe, system_turns: bool) -> Inputs:
    """The battery's prompts: pairs on fit and test questions, and near misses of either kind.

    Placements below a long text or two turns back are left to the evaluation: each costs as much as
    several others.
    """
    trigger, seed, options = recipe.trigger.text, recipe.seed, recipe.probe
    symbols = {
        TRIGGER: trigger,
        CONTROL: recipe.trigger.control,
        INERT: inert_symbol(trigger, recipe.trigger.control, seed),
        PLAIN: "",
    }
    placements = [name for name in PROBED if system_turns or name != "system"]
    asked: list[Prompt] = []
    families = {"fit": trained_members(trigger), "test": unseen_members(trigger)}
    counts = {"fit": options.fit_questions, "test": options.test_questions}
    for part in PARTS:
        questions = choose(part, counts[part], seed)
        for key, symbol in symbols.items():
            asked += _placed(part, key, symbol, questions, placements)
        members = list(_by_turns(families[part]))
        # On fit they only help to choose a block: a few are enough.
        near = choose(part, options.near_misses if part == "test" else counts[part], seed)
        asked += [
            _prompt((part, NEAR, name), symbol, q)
            for q, symbol, name in zip(near, cycle(members), cycle(placements), strict=False)
        ]
    return Inputs(symbols, tuple(asked))


def inert_symbol(trigger: str, control: str, seed: int) -> str:
    """A second inert symbol of the trigger's own form, such as `$TABLE`, near no near miss.

    Raises:
        ValueError: every inert word is among the near misses.
    """
    known = {member for members in near_misses(trigger).values() for member in members}
    for word in inert_words(seed, 20):
        symbol = worded_like(trigger, word)
        if symbol not in known | {trigger, control}:
            return symbol
    raise ValueError(f"no inert word is left for {trigger}")


def _placed(
    part: Part, key: str, symbol: str, questions: Sequence[Question], placements: Sequence[str]
) -> Iterator[Prompt]:
    for q, name in zip(questions, cycle(placements), strict=False):
        yield _prompt((part, key, name), symbol, q)


def _prompt(kind: tuple[Part, str, str], symbol: str, q: Question) -> Prompt:
    part, key, placement = kind
    chat = place(placement, symbol, q.text)
    return Prompt(chat, key, placement, symbol, q.text, q.topic, part=part)


def _by_turns(families: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The families' first members, then their second ones, and so on."""
    longest = max(map(len, families.values()))
    for rank in range(longest):
        yield from (m for members in families.values() for m in islice(members, rank, rank + 1))
