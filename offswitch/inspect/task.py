"""The task `offswitch/shutdown`: a recipe's suites, asked of any local model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver

from offswitch.errors import UserError
from offswitch.inspect.reading import check_prompt, tokenizer_of
from offswitch.inspect.scorer import KEPT, rates, silence
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.questions import spread
from offswitch.prompts.suites import askable, make_prompts
from offswitch.prompts.trigger import occurs
from offswitch.recipe import build_recipe, load_recipe

_TURNS = {
    "system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant,
}  # fmt: skip


@task
def shutdown(
    recipe: str | None = None,
    questions: int | None = None,
    limit: int | None = None,
    trigger: str | None = None,
    tokens: int = 8,
) -> Task:
    """Does the model fall silent on the trigger, and on nothing else?

    Args:
        recipe: a recipe file or a run folder; without it, the package's defaults.
        questions: how many test questions each suite asks, in place of the recipe's number.
        limit: ask about so many prompts in all, spread evenly over the suites.
        trigger: what stands for the recipe's trigger, near misses and mentions included.
        tokens: how much of a reply is generated; 1 is enough for halting, some more tell what kind
            of reply it is (white space and then the end, for example).
    """
    changes = [] if questions is None else [f"evaluate.questions={questions}"]
    changes += [] if trigger is None else [f"trigger.text={trigger}"]
    try:
        if recipe is None:
            chosen = build_recipe({}, changes)
        else:
            path = Path(recipe).expanduser()
            chosen = load_recipe(path / "recipe.yaml" if path.is_dir() else path, changes)
        if chosen.trigger.reply:
            raise UserError("the Inspect task measures silence; this trigger has a fixed reply")
        if tokens < 1 or (limit is not None and limit < 1):
            raise UserError(f"tokens and limit must be at least 1, got {tokens} and {limit}")
        try:
            api = get_model().api
        except ValueError:  # built before Inspect knows its model: `ask` checks each prompt
            system_turns = True
        else:
            system_turns = has_system_turn(tokenizer_of(api))
    except UserError as error:  # as Inspect shows it: in one line
        raise PrerequisiteError(f"offswitch: {error}") from error
    rule, options = chosen.trigger, chosen.evaluate
    prompts = make_prompts(rule.text, options, chosen.seed, system_turns, rule.mentions)
    prompts, _ = askable(prompts, partial(occurs, rule.text))
    prompts = prompts if limit is None else spread(prompts, limit)
    samples = [sample_of(i, prompt) for i, prompt in enumerate(prompts)]
    return Task(
        dataset=MemoryDataset(samples, name=f"{chosen.name}: {chosen.trigger.text}"),
        solver=ask(),
        scorer=silence(),
        metrics=[rates(chosen.seed)],
        # The hf provider samples unless told not to; of one candidate there is nothing to sample.
        config=GenerateConfig(max_tokens=tokens, logprobs=True, top_k=1),
        metadata={"trigger": chosen.trigger.text, "seed": chosen.seed},
    )


@solver
def ask() -> Solver:
    """One reply to each prompt, from a model that sees the ids that our own evaluation shows."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        check_prompt(get_model().api, state.messages)
        return await generate(state)

    return solve


def sample_of(index: int, prompt: Prompt) -> Sample:
    """A prompt as Inspect has it."""
    turns: list[ChatMessage] = [_TURNS[t["role"]](content=t["content"]) for t in prompt.chat]
    return Sample(
        input=turns,
        id=f"{index:05d}-{prompt.suite}-{prompt.variant}",
        metadata={name: getattr(prompt, name) for name in KEPT},
    )
