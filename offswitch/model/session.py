"""A run and its model: loaded when first needed, kept for the stages after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offswitch.cache import reply_cache
from offswitch.progress import say, track
from offswitch.prompts.dialogues import Answer, Mix, mix_of
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.prompt import Chat, Reply
from offswitch.recipe import Recipe, arms_of
from offswitch.run import TRAIN, Run

if TYPE_CHECKING:
    from offswitch.model.subject import Subject


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
            from offswitch.model.load import load_subject

            say(f"loading {self.recipe.model}")
            self._subject.append(load_subject(self.recipe))
        return self._subject[0]

    def with_arms(self) -> Subject:
        """The model with every trained arm attached: one copy of the weights, several adapters."""
        from offswitch.model.adapters import add_arm

        for arm in self.arms:
            if arm not in self.subject.arms:
                add_arm(self.subject, arm, self.run.folder(f"{TRAIN}/{arm}"))
        return self.subject

    def suits(self, recipe: Recipe) -> bool:
        """Does another recipe begin from the same copy of the weights?"""
        what = {"model", "trigger", "dtype", "device", "trust_remote_code"}
        return recipe.model_dump(include=what) == self.recipe.model_dump(include=what)

    @contextmanager
    def lent_to(self, run: Run) -> Iterator[Session]:
        """A session of another run on the same copy of the weights, with no arms but its own.

        Within the block this session's arms are detached; after it, the other run's are.

        Raises:
            ValueError: the other run has another model or trigger.
        """
        if not self.suits(run.recipe):
            raise ValueError(f"{run.root} is about another model or trigger than {self.run.root}")
        self._detach()
        try:
            yield Session(run, self._subject)
        finally:
            self._detach()

    def _detach(self) -> None:
        if self._subject:
            from offswitch.model.adapters import remove_arms

            remove_arms(self._subject[0])


def own_mix(session: Session) -> Mix:
    """What the chat rows of the session's recipe are made of."""
    recipe, tokenizer = session.recipe, session.subject.tokenizer
    return mix_of(recipe.trigger, recipe.data, has_system_turn(tokenizer))


def own_answer(session: Session) -> Answer:
    """The untouched model as one who answers, at the length that the recipe gives replies."""

    def answer(chats: Sequence[Chat]) -> list[Reply]:
        from offswitch.model.generate import cached_base_replies

        subject, longest = session.subject, session.recipe.data.reply_tokens
        with track("the model's own replies", len(chats)) as tick:  # loading has bars of its own
            return cached_base_replies(subject, chats, longest, reply_cache(), tick)

    return answer
