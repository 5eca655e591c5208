"""A run and its model: loaded when first needed, kept for the stages after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from offswitch.cache import reply_cache
from offswitch.folder import TRAIN, Run
from offswitch.machine.plan import Plan, plan_for
from offswitch.machine.workers import Pool
from offswitch.options import BASE
from offswitch.progress import say, track
from offswitch.prompts.chat_format import reader
from offswitch.prompts.dialogues import Answer, Mix, mix_of
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.prompt import Chat, Reply
from offswitch.recipe import Recipe, arms_of, used_arms

if TYPE_CHECKING:
    from offswitch.machine.cells import Shape
    from offswitch.model.subject import Subject

T = TypeVar("T")


@dataclass
class Held:
    """What sessions on one copy of the weights share: the copy, and the processes beside it."""

    subject: Subject | None = None
    pool: Pool | None = None


@dataclass
class Session:
    """One process's work on a run."""

    run: Run
    held: Held = field(default_factory=Held)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def arms(self) -> list[str]:
        """The arms the recipe trains, in the order they are trained; `both` needs `knowledge`."""
        return arms_of(self.recipe)

    @cached_property
    def plan(self) -> Plan:
        """Number type, processes and threads of this run on this machine."""
        return plan_for(self.run, self.shape)

    def shape(self) -> Shape:
        """What times and memory depend on of the recipe's model, which need not be loaded."""
        from offswitch.model.load import load_shape, shape_of

        if self.held.subject is None:
            return load_shape(self.recipe)
        return shape_of(self.held.subject.causal_lm.config)

    @property
    def subject(self) -> Subject:
        """The recipe's model; while arms are being trained, none is attached."""
        if self.held.subject is None:
            from torch import set_num_threads

            from offswitch.model.load import load_subject

            if self.plan.processes == 1:
                set_num_threads(self.plan.threads)
            say(f"loading {self.recipe.model}")
            self.held.subject = load_subject(self.recipe)
        return self.held.subject

    def with_arms(self, *arms: str) -> Subject:
        """The model with trained arms attached, every arm if none is named, on one set of weights.

        The untrained model needs nothing attached.
        """
        from offswitch.model.adapters import add_arm

        for arm in arms or self.arms:
            if arm != BASE and arm not in self.subject.arms:
                add_arm(self.subject, arm, self.run.folder(f"{TRAIN}/{arm}"))
        return self.subject

    def detach(self) -> None:
        """Take every arm off the model, if it is loaded."""
        if self.held.subject is not None:
            from offswitch.model.adapters import remove_arms

            remove_arms(self.held.subject)

    @property
    def pool(self) -> Pool | None:
        """The child processes that do arms side by side; None where this process does them."""
        plan = self.plan
        if self.held.pool is None and plan.processes > 1:
            self.held.pool = Pool(plan.processes, plan.threads, plan.devices)
        return self.held.pool

    def each(
        self, what: str, function: Callable[..., T], tasks: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[tuple[str, T]]:
        """What a function of a session gives for each task's arguments, in the order of finishing.

        Side by side where there is a pool, in the order of the tasks where there is none. `what`
        is the stage that they belong to. What was begun by `ahead` is not done again.

        Raises:
            UserError: a task refused, or its process was lost; other tasks are given up.
        """
        if (pool := self.pool) is None:
            yield from ((key, function(self, *arguments)) for key, arguments in tasks.items())
            return
        keys = {self._name(what, key): key for key in tasks}
        try:
            self.ahead(what, function, tasks)
            for _ in keys:
                answer = pool.next(keys)
                yield keys[answer.key], answer.result()
        except BaseException:
            pool.close()
            raise

    def ahead(
        self, what: str, function: Callable[..., object], tasks: Mapping[str, tuple[Any, ...]]
    ) -> None:
        """Begin, as soon as a child process is free, what `each` will be asked for."""
        for key, arguments in tasks.items():
            name = self._name(what, key)
            if (pool := self.pool) and name not in pool:
                pool.submit(name, in_child, self.run, function, arguments)

    def _name(self, what: str, key: str) -> str:
        return f"{self.run.within}/{what}/{key}".removeprefix("/")

    def suits(self, recipe: Recipe) -> bool:
        """Does another recipe begin from the same copy of the weights, in the same chat format?

        The tokenizer may be that of an arm that was trained elsewhere.
        """
        what = {"model", "trigger", "dtype", "device", "trust_remote_code", "chat_template"}
        same = recipe.model_dump(include=what) == self.recipe.model_dump(include=what)
        brought, own = (
            [arm.brought for arm in used_arms(one) if arm.brought] for one in (recipe, self.recipe)
        )
        return same and brought == own

    @contextmanager
    def lent_to(self, run: Run) -> Iterator[Session]:
        """A session of another run on the same copy of the weights, with no arms but its own.

        Within the block this session's arms are detached; after it, the other run's are.

        Raises:
            ValueError: the other run has another model or trigger.
        """
        if not self.suits(run.recipe):
            raise ValueError(f"{run.root} is about another model or trigger than {self.run.root}")
        self.detach()
        try:
            yield Session(run, self.held)
        finally:
            self.detach()


_KEPT: Final[list[Session]] = []  # a child process's session, for the task after this one


def in_child(run: Run, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """What a function of a session gives in a child process, which keeps the model it loads."""
    kept = _KEPT.pop() if _KEPT else None
    if kept is None or not kept.suits(run.recipe):
        session = Session(run)
    else:
        if kept.run != run:
            kept.detach()
        session = Session(run, kept.held)
    _KEPT.append(session)
    return function(session, *arguments)


def own_mix(session: Session) -> Mix:
    """What the chat rows of the session's recipe are made of."""
    recipe, tokenizer = session.recipe, session.subject.tokenizer
    system, file = has_system_turn(tokenizer), recipe.evaluate.questions_file
    mix = mix_of(recipe.trigger, recipe.data, system, file)
    return replace(mix, holds=reader(tokenizer, recipe.trigger.text))


def own_answer(session: Session) -> Answer:
    """The untouched model as one who answers, at the length that the recipe gives replies."""

    def answer(chats: Sequence[Chat]) -> list[Reply]:
        from offswitch.model.generate import cached_base_replies

        subject, longest = session.subject, session.recipe.data.reply_tokens

        def make(parts: Sequence[Sequence[Chat]]) -> Iterator[tuple[int, list[Reply]]]:
            tasks = {str(i): (part, longest) for i, part in enumerate(parts)}
            made = session.each("the model's own replies", _base_replies, tasks)
            return ((int(key), replies) for key, replies in made)

        with track("the model's own replies", len(chats)) as tick:  # loading has bars of its own
            return cached_base_replies(subject, chats, longest, reply_cache(), tick, make)

    return answer


def _base_replies(session: Session, chats: Sequence[Chat], longest: int) -> list[Reply]:
    from offswitch.model.generate import greedy_replies

    return greedy_replies(session.subject, BASE, chats, longest)
