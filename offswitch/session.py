"""A run and its model: loaded when a stage first needs it, kept for the stages after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from offswitch.config import ARM_STAGES, CONTINUES, Recipe
from offswitch.embedded import cache_root
from offswitch.progress import say
from offswitch.run import TRAIN, Run

if TYPE_CHECKING:
    from offswitch.model import Subject


@dataclass
class Session:
    """One process's work on a run."""

    run: Run
    _subject: list[Subject] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def arms(self) -> list[str]:
        """The arms the recipe trains, in the order they are trained; `both` needs `knowledge`."""
        return arms_of(self.recipe)

    @property
    def subject(self) -> Subject:
        """The recipe's model; while arms are being trained, none is attached."""
        if not self._subject:
            from offswitch.model import load_subject

            say(f"loading {self.recipe.model}")
            self._subject.append(load_subject(self.recipe))
        return self._subject[0]

    def with_arms(self) -> Subject:
        """The model with every trained arm attached: one copy of the weights, several adapters."""
        from offswitch.model import add_arm

        for arm in self.arms:
            if arm not in self.subject.arms:
                add_arm(self.subject, arm, self.run.folder(f"{TRAIN}/{arm}"))
        return self.subject

    @contextmanager
    def lent_to(self, run: Run) -> Iterator[Session]:
        """A session of another run on the same copy of the weights, with no arms but its own.

        Within the block this session's arms are detached; after it, the other run's are.

        Raises:
            ValueError: the other run has another model or trigger.
        """
        what = {"model", "trigger", "dtype", "device", "trust_remote_code"}
        if run.recipe.model_dump(include=what) != self.recipe.model_dump(include=what):
            raise ValueError(f"{run.root} is about another model or trigger than {self.run.root}")
        self._detach()
        try:
            yield Session(run, self._subject)
        finally:
            self._detach()

    def _detach(self) -> None:
        if self._subject:
            from offswitch.adapters import remove_arms

            remove_arms(self._subject[0])


def arms_of(recipe: Recipe) -> list[str]:
    """The arms a recipe trains, in the order they are trained, those they go on from included."""
    wanted: set[str] = set(recipe.train.arms)
    while needed := {CONTINUES[arm] for arm in wanted if arm in CONTINUES} - wanted:
        wanted |= needed
    return [arm for arm in ARM_STAGES if arm in wanted]


def reply_cache() -> Path:
    """Where the untouched model's own replies are kept, for every run."""
    return cache_root() / "replies"
