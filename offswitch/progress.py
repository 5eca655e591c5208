"""Progress on the terminal: bars with rate and time left, those of children too."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Tick = Callable[[int], None]

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Bar:
    """How far a piece of work is: `done` of `total` items; `ended` also where it was given up."""

    label: str
    done: int
    total: int
    ended: bool = False


News = str | Bar  # a line for the person at the terminal, or how far something is
# Told of every bar, those of child processes included, whenever it moves.
watchers: Final[list[Callable[[Bar], None]]] = []


class _Left(TimeRemainingColumn):
    """The time left of the whole run, where it is known; else that of the bar."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        if _SCREEN.left is None:
            return super().render(task)
        seconds = round(_SCREEN.left())
        return Text(f"{timedelta(seconds=seconds)} in all", style="progress.remaining")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@dataclass
class _Screen:
    """The bars that are shown now, by who moves them and their label; or who is told instead.

    `left` tells the seconds left of the whole run.
    """

    relay: Callable[[News], None] | None = None
    left: Callable[[], float] | None = None
    progress: Progress | None = None
    bars: dict[tuple[Hashable, str], tuple[TaskID, Bar]] = field(default_factory=dict)

    def draw(self, who: Hashable, bar: Bar) -> None:
        """Draw a bar as it is now; on a file only its end leaves a line."""
        if self.progress is None:
            live = console.is_terminal or console.is_jupyter
            columns = (
                TextColumn("  {task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                _Rate(), TimeElapsedColumn(), TextColumn("left"), _Left(),
            )  # fmt: skip
            self.progress = Progress(*columns, console=console, transient=True, disable=not live)
            self.progress.start()
        progress, name = self.progress, (who, bar.label)
        known = self.bars.get(name)
        task = known[0] if known else progress.add_task(bar.label, total=bar.total)
        self.bars[name] = task, bar
        progress.update(task, completed=bar.done)
        if not bar.ended:
            return
        if not console.is_terminal:
            console.print(progress.make_tasks_table([t for t in progress.tasks if t.id == task]))
        progress.remove_task(task)
        del self.bars[name]
        if not self.bars:
            progress.stop()
            self.progress = None


_SCREEN: Final = _Screen()


def nothing(_count: int) -> None:
    """Progress that nobody watches."""


@contextmanager
def track(what: str, total: int) -> Iterator[Tick]:
    """A bar named `what`; call what it yields with the number of items done."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        tell(Bar(what, done, total))

    tick(0)
    try:
        yield tick
    finally:
        tell(Bar(what, done, total, ended=True))


def say(line: str) -> None:
    """One line for the person at the terminal."""
    tell(line)


def tell(news: News, who: Hashable = None) -> None:
    """Show what this process says, or what it hears from `who`; a child's goes to its parent."""
    if _SCREEN.relay is not None:
        _SCREEN.relay(news)
    elif isinstance(news, str):
        console.print(news, markup=False, emoji=False, soft_wrap=True)
    else:
        for watch in watchers:
            watch(news)
        _SCREEN.draw(who, news)


def relay_to(listener: Callable[[News], None]) -> None:
    """From now on this process shows nothing itself: `listener` is told."""
    _SCREEN.relay = listener


@contextmanager
def show_left(seconds: Callable[[], float]) -> Iterator[None]:
    """Within the block, bars show what is left of the whole run."""
    _SCREEN.left = seconds
    try:
        yield
    finally:
        _SCREEN.left = None


def forget(who: Hashable) -> None:
    """End the bars of a process that is gone."""
    for (whose, _), (_, bar) in [*_SCREEN.bars.items()]:
        if whose == who:
            tell(replace(bar, ended=True), who)
