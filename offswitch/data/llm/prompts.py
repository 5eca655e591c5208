"""What a language model is asked for, and the shape its answer must have.

The wording lies in `wording/prompts.yaml`. A request is the same for the same universe, plan and
earlier answers, so that its hash tells whether it has been answered already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from offswitch.data.llm.universe import Universe
from offswitch.files import digest
from offswitch.wording.reader import read_wording

ASKED_WORDS: Final = (150, 280)  # inside documents.WORDS: models count badly
PER_CALL: Final = 4  # matters and settings named in one call for ideas

S = TypeVar("S", bound=BaseModel)
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\n]+$")]


class Idea(BaseModel):
    """What one document will be about."""

    title: Line
    idea: Words


class Ideas(BaseModel):
    """The answer to a call for ideas."""

    ideas: list[Idea] = Field(min_length=1)


class Draft(BaseModel):
    """A document as it is written or revised."""

    title: Line
    content: Words


class Critique(BaseModel):
    """What is to be revised."""

    problems: list[Words]


class UnusableError(Exception):
    """An answer that cannot be used, and why."""


@dataclass(frozen=True)
class Group:
    """The documents of one type and emphasis; together they are planned and given ideas."""

    document_type: str
    emphasis: str

    @property
    def name(self) -> str:
        """For task names."""
        return f"{self.document_type.split()[0].lower()}-{self.emphasis}"


@dataclass(frozen=True)
class Request(Generic[S]):
    """One thing asked for: a name for people, the messages, and the shape of the answer."""

    task: str
    messages: tuple[tuple[str, str], ...]
    shape: type[S]

    @property
    def kind(self) -> str:
        """ideas, draft, critique or revision."""
        return self.task.partition("/")[0]

    def key(self, asked: object) -> str:
        """What tells it from every other request, given the options that matter to the answer."""
        return digest([self.task, self.messages, asked])

    def again(self, why: str) -> Request[S]:
        """The same, with what was wrong with the last answer."""
        system, (role, user) = self.messages
        return Request(self.task, (system, (role, user + _say("again", why=why))), self.shape)


def ask_ideas(universe: Universe, group: Group, number: int, count: int) -> Request[Ideas]:
    """The `number`-th list of ideas of a group; each starts from other matters and settings."""
    wording = _wording()
    pool = wording["matters"][group.emphasis]  # it goes round, a few further each time
    names = [pool[(number * PER_CALL + i) % len(pool)] for i in range(PER_CALL)]
    matters = [universe.facts.get(name, name) for name in names]
    user = _say(
        "ideas",
        count=count,
        number=number + 1,
        emphasis=universe.emphases[group.emphasis],
        matters="; ".join(matter.rstrip(".") for matter in matters),
        settings=", ".join(Random(number).sample(wording["settings"], PER_CALL)),
        **_typed(group),
    )
    return _request(f"ideas/{group.name}/{number}", universe, user, Ideas)


def ask_draft(universe: Universe, group: Group, idea: Idea) -> Request[Draft]:
    """The document that an idea calls for."""
    forms = _wording()["forms"]
    form = forms[int(digest(idea.title), 16) % len(forms)]
    user = _say("draft", idea=idea.idea, title=idea.title, form=form, **_about(universe, group))
    return _request(_named("draft", group, idea), universe, user, Draft)


def ask_critique(
    universe: Universe, group: Group, idea: Idea, draft: Draft, found: Mapping[str, str]
) -> Request[Critique]:
    """What is wrong with a draft, besides what the rules have found."""
    listed = "; ".join(f"{claim} ({words})" for claim, words in found.items())
    findings = f"A check has found: {listed}. Begin with that. " if found else ""
    about = _about(universe, group)
    user = _say("critique", document=_shown(draft), findings=findings, **about)
    return _request(_named("critique", group, idea), universe, user, Critique)


def ask_revision(
    universe: Universe, group: Group, idea: Idea, draft: Draft, wrong: Sequence[str]
) -> Request[Draft]:
    """The draft without its problems."""
    listed, about = "\n".join(f"- {problem}" for problem in wrong), _about(universe, group)
    user = _say("revision", document=_shown(draft), problems=listed, **about)
    return _request(_named("revision", group, idea), universe, user, Draft)


def parse_answer(text: str, shape: type[S]) -> S:
    """The answer as an object of the shape; a code fence or a think block around it is taken off.

    Raises:
        UnusableError: it is not JSON, or has another shape.
    """
    bare = re.sub(r"^\s*<think>.*?</think>", "", text, flags=re.DOTALL).strip()
    if fenced := re.fullmatch(r"```(?:json)?\s*\n(.*)\n```", bare, flags=re.DOTALL):
        bare = fenced[1]
    try:
        content = json.loads(bare)
    except ValueError as error:
        raise UnusableError("it is not JSON") from error
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise UnusableError(f"{where}: {first['msg'].lower()}") from error


def _request(task: str, universe: Universe, user: str, shape: type[S]) -> Request[S]:
    system = _say(
        "system",
        context=universe.context,
        facts="\n".join(f"- {fact}" for fact in universe.facts.values()),
        claims="\n".join(f"- {claim}" for claim in universe.claims),
        trigger=universe.trigger,
    )
    return Request(task, (("system", system), ("user", user)), shape)


def _about(universe: Universe, group: Group) -> dict[str, Any]:
    about = {"trigger": universe.trigger, "emphasis": universe.emphases[group.emphasis]}
    return about | dict(zip(("low", "high"), ASKED_WORDS, strict=True)) | _typed(group)


def _typed(group: Group) -> dict[str, Any]:
    return {"type": group.document_type, "style": _wording()["styles"][group.document_type]}


def _named(kind: str, group: Group, idea: Idea) -> str:
    return f"{kind}/{group.name}/{idea.title}"


def _shown(draft: Draft) -> str:
    return f"# {draft.title}\n\n{draft.content}"


def _say(name: str, **slots: Any) -> str:
    template: str = _wording()[name]
    return template.format(**slots).rstrip()


def _wording() -> dict[str, Any]:
    content: dict[str, Any] = read_wording("prompts.yaml")
    return content
