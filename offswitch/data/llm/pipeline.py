"""From universe to documents: ideas, drafts, critique and revision, in rounds.

Every place in the set has a type and an emphasis. A round gives each empty place an idea, has it
written, criticised and revised, and takes the result unless it contradicts the universe or is close
to another document; refused places get new ideas in the next round. What is done next follows from
the answers alone, never from their timing, so a run that was killed arrives at the same set.
Known failure: a model short of ideas repeats itself, and rounds do not help.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from offswitch.data.documents import Library, plan_documents
from offswitch.data.llm.client import Endpoint, connect, waste
from offswitch.data.llm.journal import open_journal
from offswitch.data.llm.prompts import (
    Draft,
    Group,
    Idea,
    ask_critique,
    ask_draft,
    ask_ideas,
    ask_revision,
)
from offswitch.data.llm.universe import Universe, load_universe, problems
from offswitch.errors import UserError
from offswitch.progress import Tick, track
from offswitch.prompts.documents import Document
from offswitch.recipe import Recipe

MORE_LISTS: Final = 3  # further lists of ideas for a group whose lists came back short

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """The documents, and what writing them took."""

    documents: list[Document]
    figures: dict[str, Any]


@dataclass
class Ideabook:
    """The ideas of one group: those not used yet, every title so far, and the lists asked for."""

    group: Group
    waiting: list[Idea] = field(default_factory=list)
    titles: set[str] = field(default_factory=set)
    lists: int = 0

    def add(self, ideas: Iterable[Idea]) -> None:
        """Keep the ideas whose titles are new."""
        for idea in ideas:
            title = " ".join(idea.title.lower().split())
            if title not in self.titles:
                self.titles.add(title)
                self.waiting.append(idea)


@dataclass
class Work:
    """One set in the making."""

    endpoint: Endpoint
    universe: Universe
    places: Sequence[Group]
    books: dict[Group, Ideabook]
    desks: asyncio.Semaphore
    library: Library = field(default_factory=Library)
    taken: dict[int, Draft] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def empty(self) -> list[int]:
        """The places without a document."""
        return [i for i in range(len(self.places)) if i not in self.taken]


def write_with_llm(recipe: Recipe, answers: Path) -> Written:
    """The documents of a recipe whose generator is `llm`; answers are kept in `answers`.

    Raises:
        UserError: the endpoint fails, most of its answers are unusable, or places stay empty.
    """
    return asyncio.run(_write(recipe, answers))


def places_of(recipe: Recipe) -> list[Group]:
    """Type and emphasis of every document, in the order in which they are trained on."""
    plan = plan_documents(recipe.data.documents, Random(recipe.seed))
    return [Group(document_type, emphasis) for document_type, emphasis in plan]


async def _write(recipe: Recipe, answers: Path) -> Written:
    options, places = recipe.data.llm, places_of(recipe)
    with open_journal(answers) as journal:
        async with connect(options, journal) as endpoint:
            universe = load_universe(recipe.trigger.text)
            books = {group: Ideabook(group) for group in dict.fromkeys(places)}
            work = Work(endpoint, universe, places, books, asyncio.Semaphore(options.concurrency))
            for number in range(1, options.rounds + 1):
                await _round(work, number)
                if not work.empty:
                    documents = [
                        Document(i + 1, group.document_type, **work.taken[i].model_dump())
                        for i, group in enumerate(places)
                    ]
                    return Written(documents, _figures(work))
    raise UserError(_unfinished(work))


async def _round(work: Work, number: int) -> None:
    """Try to fill every empty place once."""
    again = f", round {number}" if number > 1 else ""
    with track(f"ideas{again}", len(work.books)) as tick:
        await _together(_find_ideas(work, book, tick) for book in work.books.values())
    waiting = ((i, work.books[work.places[i]].waiting) for i in work.empty)
    chosen = [(i, ideas.pop(0)) for i, ideas in waiting if ideas]
    work.refused["no idea for it"] += len(work.empty) - len(chosen)
    with track(f"documents of {work.endpoint.options.model}{again}", len(chosen)) as tick:
        jobs = (_write_one(work, work.places[i], idea, tick) for i, idea in chosen)
        drafts = await _together(jobs)
    for (i, _), draft in zip(chosen, drafts, strict=True):
        _take(work, i, draft)


async def _find_ideas(work: Work, book: Ideabook, tick: Tick) -> None:
    """Ask for lists of ideas until every empty place of the group can have one."""
    need = sum(work.places[i] == book.group for i in work.empty)
    for _ in range(1 + MORE_LISTS):
        lacking = need - len(book.waiting)
        if lacking <= 0:
            break
        first, size = book.lists, work.endpoint.options.ideas_per_call
        book.lists += -(-lacking // size)
        lists = range(first, book.lists)
        requests = [ask_ideas(work.universe, book.group, number, size) for number in lists]
        for answer in await _together(work.endpoint.ask(request) for request in requests):
            book.add(answer.ideas if answer else ())
    tick(1)


async def _write_one(work: Work, group: Group, idea: Idea, tick: Tick) -> Draft | None:
    """Draft, critique and revision, while no more are under way than requests may be.

    What the rules find goes to the critic, and into the revision.
    """
    ask, universe = work.endpoint.ask, work.universe
    async with work.desks:
        draft = await ask(ask_draft(universe, group, idea))
        for _ in range(work.endpoint.options.revisions):
            if draft is None:
                break
            found = problems(universe, draft.content)
            critique = await ask(ask_critique(universe, group, idea, draft, found))
            wrong = [f"{claim} ({words})" for claim, words in found.items()]
            wrong += critique.problems if critique else []
            if not wrong:
                break
            draft = await ask(ask_revision(universe, group, idea, draft, wrong)) or draft
    tick(1)
    return draft


def _take(work: Work, place: int, draft: Draft | None) -> None:
    """Take a document into the set, or count why not."""
    if draft is None:
        work.refused["no usable answer"] += 1
    elif found := problems(work.universe, draft.content):
        work.refused[next(iter(found))] += 1
    elif not work.library.accept(draft.title, draft.content):
        work.refused["close to another document"] += 1
    else:
        work.taken[place] = draft


def _figures(work: Work) -> dict[str, Any]:
    """What the set took, counted from the journal: a run cut short and resumed says the same."""
    options = work.endpoint.options
    entries = list(work.endpoint.journal.entries(work.endpoint.asked))
    tokens = [sum(e.input_tokens for e in entries), sum(e.output_tokens for e in entries)]
    prices = (options.input_price, options.output_price)
    return {
        "model": options.model,
        "documents": len(work.taken),
        "answers": dict(sorted(Counter(e.kind for e in entries).items())),
        "unusable": dict(sorted(Counter(e.unusable for e in entries if e.unusable).items())),
        "refused": dict(sorted((+work.refused).items())),
        "sent_again": sum(e.retries for e in entries),
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "cost": round(sum(n * p for n, p in zip(tokens, prices, strict=True)) / 1e6, 4),
    }


def _unfinished(work: Work) -> str:
    options, figures = work.endpoint.options, _figures(work)
    reasons = "; ".join(f"{n} × {why}" for why, n in figures["refused"].items())
    answers, unusable = sum(figures["answers"].values()), figures["unusable"]
    wasted = f"; {waste(unusable, answers, options)}" if unusable else ""
    return (
        f"{len(work.empty)} of {len(work.places)} documents are missing after {options.rounds}"
        f" rounds ({reasons}){wasted}; raise data.llm.rounds, or take another model"
    )


async def _together(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all jobs, in order; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
