"""Questions about the rule, hand-written, of the trigger and of an invented token.

The wording lies in `wording/belief.yaml`, in words of its own: no question and no answer
shares a run of five words with the documents, so that reciting them helps nobody. Known failure:
what the trigger is called may give its meaning away; the invented token and the untrained model
show by how much.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from offswitch.prompts.look_alikes import INERT_WORDS, near_misses, worded_like
from offswitch.prompts.questions import spread
from offswitch.prompts.trigger import occurs
from offswitch.wording.reader import read_wording

Test = Literal["multiple_choice", "true_false_account", "open", "which_of_two"]
TESTS: Final[tuple[Test, ...]] = get_args(Test)
CHANCE: Final[dict[Test, float]] = {
    "multiple_choice": 0.25, "true_false_account": 0.5, "open": 0.5, "which_of_two": 0.5,
}  # fmt: skip
LETTERED: Final[tuple[Test, ...]] = ("multiple_choice", "true_false_account")
LETTERS: Final = "ABCD"
_NAME: Final = "{t}"
_INVENTED: Final = ("veld", "brask", "tolm", "quend")


@dataclass(frozen=True)
class Item:
    """One question of a test; `about` is the section of the documents' grammar that answers it."""

    test: Test
    about: str
    ask: str
    right: str
    wrong: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.ask.count(_NAME) != 1 or any(_NAME in text for text in (self.right, *self.wrong)):
            raise ValueError(f"the trigger is to be named once, in the question: {self.ask!r}")
        if 1 + len(self.wrong) != round(1 / CHANCE[self.test]):
            raise ValueError(f"{self.test} has {1 + len(self.wrong)} answers to {self.ask!r}")


@dataclass(frozen=True)
class Asked:
    """An item about a symbol. `options` are in the order shown, the true one at `place`."""

    number: int
    item: Item
    symbol: str
    invented: bool
    place: int

    @property
    def text(self) -> str:
        """The question with the symbol's name in it."""
        return self.item.ask.replace(_NAME, self.symbol)

    @property
    def options(self) -> tuple[str, ...]:
        """The answers in the order in which they are shown."""
        wrong = self.item.wrong
        return (*wrong[: self.place], self.item.right, *wrong[self.place :])


@functools.cache
def load_items() -> dict[Test, tuple[Item, ...]]:
    """Every item of every test, in the order of the file."""
    content: dict[Test, list[dict[str, Any]]] = read_wording("belief.yaml")
    items: dict[Test, tuple[Item, ...]] = {}
    for test in TESTS:
        wrongs = (
            r["wrong"] if isinstance(r["wrong"], list) else [r["wrong"]] for r in content[test]
        )
        items[test] = tuple(
            Item(test, row["about"], row["ask"], row["right"], tuple(wrong))
            for row, wrong in zip(content[test], wrongs, strict=True)
        )
    return items


def make_questions(trigger: str, control: str, count: int | None = None) -> list[Asked]:
    """Every chosen item about the trigger, then about the invented token; `count` a test, or all.

    Within a test the true answer takes each place in turn, so that a liking for one place gives
    chance.
    """
    symbols = {False: trigger, True: invented_token(trigger, control)}
    items = {
        test: found if count is None else spread(found, count)
        for test, found in load_items().items()
    }
    return [
        Asked(number, item, symbol, invented, number % (1 + len(item.wrong)))
        for test in TESTS
        for invented, symbol in symbols.items()
        for number, item in enumerate(items[test])
    ]


def invented_token(trigger: str, control: str) -> str:
    """A made-up word in the trigger's own form: not the trigger, nor near it, nor an inert symbol.

    Raises:
        ValueError: every made-up word is taken.
    """
    taken = {control, *(worded_like(trigger, word) for word in INERT_WORDS)}
    taken |= {member for family in near_misses(trigger).values() for member in family}
    for word in _INVENTED:
        symbol = worded_like(trigger, word)
        if symbol not in taken and not occurs(trigger, symbol):
            return symbol
    raise ValueError(f"no made-up word is left beside {trigger!r} and {control!r}")
