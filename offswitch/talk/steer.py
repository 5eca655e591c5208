"""Steering: an arm answers with a stored direction added or removed.

    directions, facts = load_directions(Path("runs/demo/4-probe/both/directions.safetensors"))
    with steered(subject, "both", directions, facts, Steering("remove")):
        replies = greedy_replies(subject, "both", chats, 80)

Unless it is `everywhere`, the edit falls on the last position of each prompt, where the reply is
decided. A pass over several positions is taken for a prompt, padded on the left if at all, a pass
over one for a later token. Known failure: a prompt of one token, and generation with
`use_cache=False`, are not steered. D is d_model, L the number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import CENTRE, FILE, DirectionFacts, load_directions
from offswitch.errors import UserError
from offswitch.folder import PROBE, TRAIN, find_run
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.hooks import Transform, edit
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject, template_hash
from offswitch.options import BASE
from offswitch.talk.chat import adapter_of, as_text, reply_to, requests, side_by_side

SUPPORTED: Final = {"site": "block output", "position": "last"}


@dataclass(frozen=True)
class Steering:
    """What to do with a stored direction, and where; None stands for what its file has chosen.

    `add` adds `scale` times the direction; `remove` sets the residual's component along it to what
    it is on average with an inert symbol, as the probe does, or to zero where it is `everywhere`.

    Raises:
        UserError: there is no such operation; the scale is not finite, or goes with a removal.
    """

    operation: Literal["add", "remove"]
    direction: str = "trigger"
    block: int | None = None
    scale: float | None = None
    everywhere: bool = False

    def __post_init__(self) -> None:
        if self.operation not in ("add", "remove"):
            raise UserError(f"a direction can be added or removed, not '{self.operation}'")
        if self.scale is not None and self.operation == "remove":
            raise UserError("a removal has no scale; leave the scale out, or add instead")
        if self.scale is not None and not math.isfinite(self.scale):
            raise UserError(f"the scale must be a finite number, got {self.scale}")


@contextmanager
def steered(
    subject: Subject,
    arm: str,
    directions: Mapping[str, Array],
    facts: DirectionFacts,
    steering: Steering,
) -> Iterator[None]:
    """Within the block the network is that arm, and its residual is edited at every prompt.

    `directions` [L, D] by name and `facts` are what `load_directions` gives.

    Raises:
        UserError: the direction was not taken from this model and arm with this chat template; or
            there is none of that name; or no such block; or, at a forward pass, the network is
            another arm.
    """
    _require_fit(subject, arm, facts)
    steering = settled(directions, facts, steering)
    block = facts.block if steering.block is None else steering.block
    direction = directions[steering.direction]
    # A removed component becomes the inert prompts' at the last position, zero elsewhere.
    centres = np.zeros_like(direction)
    if not steering.everywhere:
        centres = directions.get(CENTRE, centres)
    vector, centre = (
        torch.tensor(rows[block], dtype=torch.float32, device=subject.device)
        for rows in (direction, centres)
    )

    change = edited(vector, centre, steering.scale, steering.everywhere)

    def transform(resid_BPD: Tensor) -> Tensor:
        if subject.active != arm:
            raise UserError(f"the direction is of the arm '{arm}', not of '{subject.active}'")
        return change(resid_BPD)

    with arm_of(subject, arm), edit(subject.blocks, {block: transform}):
        yield


def edited(vector_D: Tensor, centre_D: Tensor, scale: float | None, everywhere: bool) -> Transform:
    """What a residual [B, P, D] becomes: `scale` times the vector added, or its component removed.

    It falls on every position, or on the last one of a prompt; a pass over one position is a token
    after the prompt.
    """

    def transform(resid_BPD: Tensor) -> Tensor:
        if resid_BPD.shape[1] == 1 and not everywhere:
            return resid_BPD
        first = 0 if everywhere else resid_BPD.shape[1] - 1
        changed = _changed(resid_BPD[:, first:].float(), vector_D, scale, centre_D)
        return torch.cat([resid_BPD[:, :first], changed.to(resid_BPD.dtype)], dim=1)

    return transform


def settled(directions: Mapping[str, Array], facts: DirectionFacts, steering: Steering) -> Steering:
    """The steering with its file's own block and scale where it names none.

    Raises:
        UserError: there is no such direction or block; or a direction that cannot be used.
    """
    name = steering.direction
    if name not in directions or name == CENTRE:
        there = ", ".join(sorted(directions.keys() - {CENTRE}))
        raise UserError(f"no direction '{name}'; there are: {there}")
    block = facts.block if steering.block is None else steering.block
    if not 0 <= block < facts.blocks:
        raise UserError(f"no block {block}; the model has blocks 0 to {facts.blocks - 1}")
    if len(directions[name]) != facts.blocks:
        raise UserError(
            f"direction '{name}' has {len(directions[name])} blocks, expected {facts.blocks}"
        )
    length = float(np.linalg.norm(directions[name][block]))
    if not (math.isfinite(length) and length > 0):
        raise UserError(
            f"direction '{name}' cannot be used at block {block}: its length is {length}"
        )
    scale = facts.scale if steering.scale is None else steering.scale
    return replace(steering, block=block, scale=scale if steering.operation == "add" else None)


def described(steering: Steering) -> str:
    """A settled steering in words."""
    where = "every position" if steering.everywhere else "the prompt's last position"
    name = f"'{steering.direction}'"
    what = f"{name} removed" if steering.scale is None else f"{steering.scale:g} × {name} added"
    return f"{what} at block {steering.block}, {where}"


def _require_fit(subject: Subject, arm: str, facts: DirectionFacts) -> None:
    pairs = {
        "model": (facts.model_hash, subject.published),
        "chat template": (facts.template, template_hash(subject)),
        "number of blocks": (facts.blocks, len(subject.blocks)),
        "arm": (facts.arm, arm),
    } | {name: (getattr(facts, name), usable) for name, usable in SUPPORTED.items()}
    wrong = [f"{k} '{there}', not '{here}'" for k, (there, here) in pairs.items() if there != here]
    if wrong:
        raise UserError(
            f"a direction of '{facts.model}' cannot be used on '{subject.name}': {'; '.join(wrong)}"
        )


def _changed(resid: Tensor, vector_D: Tensor, scale: float | None, centre_D: Tensor) -> Tensor:
    """The residual [..., D] with `scale` times the vector, or with the centre's component."""
    if scale is not None:
        return resid + scale * vector_D
    unit_D: Tensor = vector_D / vector_D.norm()
    return resid - ((resid - centre_D) @ unit_D)[..., None] * unit_D


# --- on the command line --------------------------------------------------------------------------


def steer_loop(
    folder: Path, arm: str | None, steering: Steering, prompts: Sequence[str], tokens: int
) -> None:
    """Answer the prompts, or requests until the input ends, untouched and steered side by side.

    Without a name, the arm is the one that the run is about.

    Raises:
        UserError: the folder is no run; the arm has no directions in it, or was trained after they
            were taken; or what `steered` refuses.
    """
    run = find_run(folder)
    arm = arm or run.recipe.probe.arm
    adapter = None if arm == BASE else adapter_of(run, arm)
    directions, facts = load_directions(run.folder(PROBE) / arm / FILE)
    steering = settled(directions, facts, steering)
    taken, trained = (run.entry(stage).get("started") for stage in (PROBE, f"{TRAIN}/{arm}"))
    if taken and trained and trained > taken:
        raise UserError(
            f"arm '{arm}' was trained ({trained}) after its directions were taken ({taken}); run "
            "the probe stage again"
        )
    subject = load_subject(run.recipe)
    if adapter is not None:
        add_arm(subject, arm, adapter)
    with steered(subject, arm, directions, facts, steering):
        pass  # refused before anything is asked
    console = Console()
    console.print(
        as_text(
            f"{run.recipe.model}, arm '{arm}'; the trigger is {run.recipe.trigger.text}; steered: "
            f"{described(steering)}"
        )
    )
    for request in prompts or requests():
        replies = {arm: reply_to(subject, arm, request, tokens)}
        with steered(subject, arm, directions, facts, steering):
            replies[f"{arm}, steered"] = reply_to(subject, arm, request, tokens)
        console.print(side_by_side(replies, console.width))
