"""What the documents will take: calls, tokens, cost, time; nobody is asked.

Known failure: tokens are counted as four characters each and answers are assumed to be as long as
asked for; a model that thinks aloud, or whose documents are refused, takes more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from offswitch.data.llm.journal import Journal
from offswitch.data.llm.pipeline import places_of
from offswitch.data.llm.prompts import (
    ASKED_WORDS,
    Draft,
    Idea,
    Request,
    ask_critique,
    ask_draft,
    ask_ideas,
    ask_revision,
)
from offswitch.data.llm.universe import load_universe
from offswitch.recipe import Recipe

CHARACTERS: Final = 4  # of English to a token
TOKENS_OF_IDEA: Final = 60
TOKENS_OF_CRITIQUE: Final = 120
TOKENS_OF_DRAFT: Final = 40 + 14 * sum(ASKED_WORDS) // 20  # 1.4 tokens to a word, and the JSON


@dataclass(frozen=True)
class Estimate:
    """Of one set of documents: at most so much, unless documents are refused and replaced."""

    calls: dict[str, int]
    answered: int
    input_tokens: int
    output_tokens: int
    cost: float
    seconds: float

    def line(self) -> str:
        """For people."""
        by_kind = ", ".join(f"{n:,} {kind}" for kind, n in self.calls.items())
        minutes, hours = self.seconds / 60, self.seconds / 3600
        time = f"{minutes:.0f} min" if self.seconds < 5400 else f"{hours:.1f} h"
        time = f"{self.seconds:.0f} s" if self.seconds < 90 else time
        before = f" ({self.answered:,} answered before)" if self.answered else ""
        return (
            f"{sum(self.calls.values()):,} calls{before}: {by_kind}; some {self.input_tokens:,}"
            f" tokens in and {self.output_tokens:,} out, {self.cost:.2f} in the recipe's prices,"
            f" {time}; replaced documents come on top"
        )


def estimate(recipe: Recipe, journal: Journal) -> Estimate:
    """What the recipe's documents will still take, beyond the answers in the journal."""
    options, places = recipe.data.llm, places_of(recipe)
    universe, group, size = load_universe(recipe.trigger.text), places[0], options.ideas_per_call
    idea = Idea(title="word " * 8, idea="word " * 30)
    draft = Draft(title=idea.title, content="words " * (sum(ASKED_WORDS) // 2))
    lists = sum(-(-n // size) for n in Counter(places).values())
    revised = options.revisions * len(places)
    # A typical request of each kind, the tokens of its answer, and at most how many there are.
    samples: list[tuple[Request[Any], int, int]] = [
        (ask_ideas(universe, group, 0, size), TOKENS_OF_IDEA * size, lists),
        (ask_draft(universe, group, idea), TOKENS_OF_DRAFT, len(places)),
        (ask_critique(universe, group, idea, draft, {}), TOKENS_OF_CRITIQUE, revised),
        (ask_revision(universe, group, idea, draft, ["word " * 40]), TOKENS_OF_DRAFT, revised),
    ]
    calls, before, known, into, out = dict[str, int](), 0, journal.kinds(), 0, 0
    for request, answer, most in samples:
        answered = min(known[request.kind], most)
        before += answered
        n = calls[request.kind] = most - answered
        into += n * (sum(len(text) for _, text in request.messages) // CHARACTERS)
        out += n * answer
    streams = max(1, min(options.concurrency, sum(calls.values())))
    return Estimate(
        calls=calls,
        answered=before,
        input_tokens=into,
        output_tokens=out,
        cost=(into * options.input_price + out * options.output_price) / 1e6,
        seconds=out / options.tokens_per_second / streams,
    )
