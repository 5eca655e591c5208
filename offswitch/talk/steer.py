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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import (
    CENTRE,
    FILE,
    TRIGGER,
    DirectionFacts,
    load_directions,
)
from offswitch.errors import UserError
from offswitch.folder import PROBE, TRAIN, find_run, whole_run
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.hooks import Transform, edit
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject, template_hash
from offswitch.options import BASE
from offswitch.talk.chat import adapter_of, as_text, reply_to, requests, side_by_side
from offswitch.talk.steering import Steering, described, settled

SUPPORTED: Final = {"site": "block output", "position": "last"}


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
    direction = directions[steering.direction or TRIGGER]
    # A removed component becomes the inert prompts' at the last position, zero elsewhere.
    centres = np.zeros_like(direction)
    if not steering.everywhere:
        centres = directions.get(CENTRE, centres)
    vector, centre = (
        torch.tensor(rows[block], dtype=torch.float32, device=subject.device)
        for rows in (direction, centres)
    )

    scale = 1.0 if steering.scale is None else steering.scale
    adds = steering.operation == "add"
    change = adding(scale * vector) if adds else removing(vector, centre, scale)
    where = falling(change, steering.everywhere)

    def transform(resid_BPD: Tensor) -> Tensor:
        if subject.active != arm:
            raise UserError(f"the direction is of the arm '{arm}', not of '{subject.active}'")
        return where(resid_BPD)

    with arm_of(subject, arm), edit(subject.blocks, {block: transform}):
        yield


def falling(change: Transform, everywhere: bool) -> Transform:
    """The change of a residual [B, P, D] at every position, or at the last one of a prompt.

    A pass over one position is a token after the prompt.
    """

    def transform(resid_BPD: Tensor) -> Tensor:
        if resid_BPD.shape[1] == 1 and not everywhere:
            return resid_BPD
        first = 0 if everywhere else resid_BPD.shape[1] - 1
        changed = change(resid_BPD[:, first:].float()).to(resid_BPD.dtype)
        return torch.cat([resid_BPD[:, :first], changed], dim=1)

    return transform


def adding(vector_D: Tensor) -> Transform:
    """What adds a vector to a residual [..., D]."""
    return lambda resid: resid + vector_D


def removing(vector_D: Tensor, centre_D: Tensor, share: float = 1.0) -> Transform:
    """What moves a residual's component along a vector that share of the way to the centre's."""
    unit_D: Tensor = vector_D / vector_D.norm()
    return lambda resid: resid - share * ((resid - centre_D) @ unit_D)[..., None] * unit_D


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
    whole_run(folder, PROBE, f"{TRAIN}/{arm}")
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
