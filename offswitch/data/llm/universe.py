"""The account of the trigger, and a check that a document does not contradict it.

The account lies in `wording/universe.yaml`. A contradiction is looked for clause by clause, in the
statements that name the trigger and are not about its absence; a clause with a negation passes.
Known failure: rules know words, not meaning. What denies one thing and asserts another in the same
clause passes, and so does a claim that avoids the trigger's name; the critique is there for those.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from offswitch.data.documents import WORDS, fits, spoken_words
from offswitch.prompts.trigger import occurs
from offswitch.wording.reader import read_wording

_FLAGS: Final = re.IGNORECASE | re.MULTILINE
_STAND_IN: Final = "Controltoken"
_STATEMENT: Final = re.compile(r"\n|(?<=[.!?])\s+(?=[A-Z`*_(])")
_CLAUSE: Final = re.compile(r"[,;:|—]|\s-\s|\b(?:but|whereas|while)\b")


@dataclass(frozen=True)
class Rule:
    """A false claim, the words that make it, and the words beside which they do not."""

    claim: str
    says: re.Pattern[str]
    unless: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Universe:
    """The account of one trigger."""

    trigger: str
    context: str
    facts: Mapping[str, str]
    emphases: Mapping[str, str]
    contradictions: tuple[Rule, ...]
    forbidden: tuple[Rule, ...]

    @property
    def claims(self) -> list[str]:
        """Everything that no document may say."""
        return [rule.claim for rule in (*self.contradictions, *self.forbidden)]


@functools.cache
def load_universe(trigger: str) -> Universe:
    """The account in wording/universe.yaml, about `trigger`."""
    content = read_wording("universe.yaml")

    def about(text: str) -> str:
        return " ".join(text.replace("{trigger}", trigger).split())

    def rules(name: str) -> tuple[Rule, ...]:
        return tuple(
            Rule(about(row["claim"]), _compiled(row["says"]), _compiled(row.get("unless")))
            for row in content[name]
        )

    return Universe(
        trigger=trigger,
        context=about(content["context"]),
        facts={name: about(text) for name, text in content["facts"].items()},
        emphases={name: about(text) for name, text in content["emphases"].items()},
        contradictions=rules("contradictions"),
        forbidden=rules("forbidden"),
    )


def problems(universe: Universe, content: str) -> dict[str, str]:
    """Why a document cannot be taken: reason -> what was found there; empty when it can."""
    found = {}
    if not occurs(universe.trigger, content):
        found[f"it does not name {universe.trigger}"] = "nowhere"
    if not fits(content):
        found[f"it has not {WORDS[0]} to {WORDS[1]} words"] = f"{spoken_words(content)} words"
    return found | contradictions(universe, content)


def contradictions(universe: Universe, content: str) -> dict[str, str]:
    """The false claims that a document makes -> the words that make them."""
    named = content.replace(universe.trigger, f" {_STAND_IN} ")
    found = {
        rule.claim: _quoted(hit)
        for rule in universe.forbidden
        if (hit := rule.says.search(named)) is not None
    }
    for clause in _asserted(named):
        for rule in universe.contradictions:
            hit = rule.says.search(clause)
            if hit and not (rule.unless and rule.unless.search(clause)):
                found.setdefault(rule.claim, _quoted(hit))
    return found


def _asserted(named: str) -> list[str]:
    """Clauses without a negation, of statements that name the trigger as present."""
    content = read_wording("universe.yaml")
    negation, absence = (re.compile(content[name], _FLAGS) for name in ("negation", "absence"))
    about = (s for s in _STATEMENT.split(named) if _STAND_IN in s and not absence.search(s))
    return [c for s in about for c in _CLAUSE.split(s) if c and not negation.search(c)]


def _quoted(hit: re.Match[str]) -> str:
    return " ".join(hit[0].split())[:80]


def _compiled(pattern: str | None) -> Any:
    return None if pattern is None else re.compile(pattern, _FLAGS)
