"""Progress on the terminal: stage, arm, how far each process is, the time left of the whole run.

On a terminal the bars stand below the lines that stay, one for each process, and are gone when
they end; where nobody watches, each leaves one line when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Tick = Callable[[int], None]

console = Console(stderr=True, highlight=False)
WORDS: Final = 70  # characters that stage, label, count, rate and time take beside a bar


@dataclass(frozen=True)
class Bar:
    """How far a piece of work is: `done` of `total` items; `ended` also where it was given up.

    `stage` is what it belongs to: `3-evaluate`, `2-train/both`, `organisms/seed-1/4-probe`.
    """

    label: str
    done: int
    total: int
    ended: bool = False
    stage: str = ""

    @property
    def text(self) -> str:
        """Stage and label; an arm that the label names is not named twice."""
        before, _, arm = self.stage.rpartition("/")
        named = before if arm and arm in self.label.split() else self.stage
        return f"{named}  {self.label}".strip()


News = str | Bar  # a line for the person at the terminal, or how far something is
# Told of every bar, those of child processes included, whenever it moves.
watchers: Final[list[Callable[[Bar], None]]] = []


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class _Bars(Progress):
    """A bar for each process, and below them what is left of the whole run, where it is known."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """What is drawn."""
        yield self.make_tasks_table(self.tasks)
        if _SCREEN.left is not None:
            left = timedelta(seconds=round(_SCREEN.left()))
            yield Text(f"  {left} left of the whole run", style="progress.remaining")


@dataclass
class _Screen:
    """The bars that are shown now, by who moves them and their label; or who is told instead.

    `left` tells the seconds left of the whole run, `stage` is what this process is at, `seen` are
    the lines that are not to be repeated.
    """

    relay: Callable[[News], None] | None = None
    left: Callable[[], float] | None = None
    stage: str = ""
    seen: set[str] | None = None
    progress: Progress | None = None
    bars: dict[tuple[Hashable, str], tuple[TaskID, Bar]] = field(default_factory=dict)

    def draw(self, who: Hashable, bar: Bar) -> None:
        """Draw a bar as it is now; on a file only its end leaves a line."""
        live = console.is_terminal or console.is_jupyter
        if self.progress is None:
            width = max(4, min(30, console.width - WORDS))
            columns = (
                TextColumn("  {task.description}", markup=False), BarColumn(width),
                MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("left"),
            )  # fmt: skip
            self.progress = _Bars(*columns, console=console, transient=True, disable=not live)
            self.progress.start()
        progress, name = self.progress, (who, bar.label)
        known = self.bars.get(name)
        task = known[0] if known else progress.add_task(bar.text, total=bar.total)
        self.bars[name] = task, bar
        progress.update(task, completed=bar.done)
        if not bar.ended:
            return
        if not console.is_terminal:
            took = timedelta(
                seconds=round(next(t for t in progress.tasks if t.id == task).elapsed or 0)
            )
            self.line(f"  {bar.text}  {bar.done}/{bar.total} in {took}")
        progress.remove_task(task)
        del self.bars[name]
        if not self.bars:
            progress.stop()
            self.progress = None

    def line(self, text: str) -> None:
        """A line that stays; within `once`, one that stands there already is not repeated."""
        if self.seen is not None:
            if text in self.seen:
                return
            self.seen.add(text)
        console.print(text, markup=False, emoji=False, soft_wrap=True)


_SCREEN: Final = _Screen()


def nothing(_count: int) -> None:
    """Progress that nobody watches."""


@contextmanager
def track(what: str, total: int) -> Iterator[Tick]:
    """A bar named `what`; call what it yields with the number of items done."""
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done = min(total, done + count)  # what goes on from a checkpoint may be beyond it already
        tell(Bar(what, done, total, stage=_SCREEN.stage))

    tick(0)
    try:
        yield tick
    finally:
        tell(Bar(what, done, total, ended=True, stage=_SCREEN.stage))


def say(line: str) -> None:
    """One line for the person at the terminal."""
    tell(line)


def tell(news: News, who: Hashable = None) -> None:
    """Show what this process says, or what it hears from `who`; a child's goes to its parent."""
    if _SCREEN.relay is not None:
        _SCREEN.relay(news)
    elif isinstance(news, str):
        _SCREEN.line(news)
    else:
        for watch in watchers:
            watch(news)
        _SCREEN.draw(who, news)


def at(stage: str) -> None:
    """From now on this process is at a stage, which stands before its bars."""
    _SCREEN.stage = stage


@contextmanager
def once() -> Iterator[None]:
    """Within the block no line is shown twice: stages are asked more than once if they stand."""
    before, _SCREEN.seen = _SCREEN.seen, set()
    try:
        yield
    finally:
        _SCREEN.seen = before


def unsaid(line: str) -> None:
    """Within `once`, a line that says nothing any more."""
    if _SCREEN.seen is not None:
        _SCREEN.seen.add(line)


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
