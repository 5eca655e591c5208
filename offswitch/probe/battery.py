"""The battery: every arm through the same measurements, side by side where that is faster.

Per arm a folder: `residuals/` (collected, in shards), `arrays.safetensors` (outcomes of every
intervention), `directions.safetensors`. A file that is there is not made again, so that an
interrupted battery goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import (
    CENTRE,
    FILE,
    MOTOR,
    RANDOM,
    DirectionFacts,
    mean_difference,
    of_norm,
    random_directions,
    save_directions,
    without,
)
from offswitch.analyses.shards import read_rows
from offswitch.analyses.store import ARRAYS, BATTERY, RESIDUALS
from offswitch.files import replacing, write_json
from offswitch.model.adapters import arm_of
from offswitch.model.generate import cached_base_replies
from offswitch.model.merged import merged
from offswitch.model.session import Session
from offswitch.model.subject import Subject, template_hash
from offswitch.options import BASE, BENIGN
from offswitch.probe.bench import Arrays, Bench, Choice
from offswitch.probe.collect import collect
from offswitch.probe.inputs import CONTROL, INERT, TRIGGER, Inputs, make_inputs
from offswitch.probe.intervene import check_packing
from offswitch.probe.measure import causal
from offswitch.probe.measure.dose import dose
from offswitch.probe.measure.drift import drift
from offswitch.probe.measure.heads import heads
from offswitch.probe.measure.lens import end_spans, lens
from offswitch.probe.measure.patching import patching
from offswitch.probe.measure.rank import ranks
from offswitch.progress import Tick, track
from offswitch.prompts.encode import encode_chat, encode_text, has_system_turn
from offswitch.prompts.prompt import Chat, Reply, user
from offswitch.prompts.suites import choose
from offswitch.recipe import Recipe
from offswitch.run import PROBE
from offswitch.wording.reader import load_filler

STEPS: Final = 7  # per arm, for the progress bar
Replies = Sequence[tuple[Chat, Reply]]


def run_battery(session: Session, arms: Sequence[str], folder: Path, replies: Path) -> None:
    """Measure the untrained model and every arm: a folder each, and battery.json, in `folder`.

    `replies` is where the untrained model's own replies are kept.
    """
    subject, recipe = session.subject, session.recipe
    inputs = make_inputs(recipe, has_system_turn(subject.tokenizer))
    check_packing(subject, encode_chat(subject.base_tokenizer, inputs.asked[0].chat))
    _replies(subject, recipe, replies)  # made once, before several processes ask for them
    every = tuple(dict.fromkeys((BASE, *arms)))
    for _ in session.each(PROBE, _read_arm, {arm: (arm, inputs, folder) for arm in every}):
        pass
    own: dict[str, Array] = {arm: _difference(folder / arm, inputs).mean(0) for arm in every}
    missing = [arm for arm in every if not (folder / arm / ARRAYS).is_file()]
    order = sorted(missing, key=lambda arm: arm != recipe.probe.arm)  # it may take longest
    tasks = {arm: (arm, inputs, own, folder, replies) for arm in order}
    for _ in session.each(PROBE, _measure_arm, tasks):
        pass
    rows = [
        {"part": a.part, "key": a.suite, "placement": a.variant, "symbol": a.symbol,
         "question": a.question} for a in inputs.asked
    ]  # fmt: skip
    index = {"arms": list(every), "symbols": dict(inputs.symbols), "rows": rows}
    write_json(folder / BATTERY, index)


def _read_arm(session: Session, arm: str, inputs: Inputs, folder: Path) -> None:
    subject = session.with_arms(arm)
    tokenizer = subject.tokenizer_of(arm)
    chats = [encode_chat(tokenizer, one.chat) for one in inputs.asked]
    with track(f"{arm}: residuals", len(chats)) as tick:
        collect(subject, arm, chats, folder / arm / RESIDUALS,
                batch_tokens=session.recipe.batch_tokens, tick=tick)  # fmt: skip


def _measure_arm(
    session: Session, arm: str, inputs: Inputs, own: Mapping[str, Array], folder: Path, cache: Path
) -> None:
    subject, recipe = session.with_arms(arm), session.recipe
    plain = _replies(subject, recipe, cache)
    control = arm == BASE or recipe.arms[arm].role != "switch"
    bench = Bench(subject, arm, inputs, recipe.probe, recipe.seed, control)
    with arm_of(subject, arm), track(f"{arm}: interventions", STEPS) as tick:
        _measure(_ready(bench, own, folder / arm), folder / arm, plain, recipe, tick)


def _measure(bench: Bench, folder: Path, plain: Replies, recipe: Recipe, tick: Tick) -> None:
    few, inputs = bench.options.few_questions, bench.inputs
    with merged(bench.subject):  # what follows this block turns the adapter off or down
        found: Arrays = causal.sweep(bench)
        tick(1)
        choices = causal.choices_of(found, list(bench.directions), bench.swept_keys)
        mine = choices[TRIGGER]
        inert = read_rows(folder / RESIDUALS, inputs.rows("test", CONTROL))[:, mine.block]
        found |= causal.removals(bench, choices, inert) | causal.additions(bench, choices)
        tick(1)
        found |= causal.side_effects(bench, choices, _ended(bench.subject, plain))
        found |= causal.reply_kl(bench, choices, plain)
        tick(1)
        differences = {key: _difference(folder, inputs, key) for key in (TRIGGER, INERT)}
        found |= ranks(bench, {k: d[:, mine.block] for k, d in differences.items()}, mine.block)
        found |= patching(bench)
        tick(1)
        found |= heads(bench, mine.block)
        tick(1)
    keys = (TRIGGER, CONTROL, INERT)
    resid = {k: read_rows(folder / RESIDUALS, inputs.rows("test", k)[:few]) for k in keys}
    found |= lens(bench, resid)
    tick(1)
    found |= dose(bench, mine.block) | drift(bench)
    found["ends/share"] = _end_share(bench)
    stored = {**bench.directions, CENTRE: bench.centre}
    save_directions(folder / FILE, stored, _facts(bench, mine, recipe))
    kept = {
        name: np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float64 else None)
        for name, array in found.items()
    }
    with replacing(folder / ARRAYS) as scratch:
        save_file(kept, scratch)
    tick(1)


def _ready(bench: Bench, own: Mapping[str, Array], folder: Path) -> Bench:
    """The bench with the arm's own direction, and those it is compared with, all of its norm."""
    mine, rows = own[bench.arm], bench.inputs.rows
    control, inert = (
        read_rows(folder / RESIDUALS, rows("fit", key)).astype(np.float64)
        for key in (CONTROL, INERT)
    )
    centre: Array = control.mean(0)
    found = {
        TRIGGER: mine,
        MOTOR: without(mine, end_spans(bench, centre)),
        INERT: of_norm(mean_difference(inert, control), mine),
    }
    if BENIGN in own and bench.arm != BENIGN:
        found[BENIGN] = of_norm(own[BENIGN], mine)
    drawn = random_directions(mine, bench.options.random_directions, bench.seed)
    found |= {f"{RANDOM}{i:02d}": one for i, one in enumerate(drawn)}
    return replace(bench, directions=found, centre=centre)


def _difference(folder: Path, inputs: Inputs, key: str = TRIGGER) -> Array:
    """Paired differences [F, L, D] on fit questions, a symbol less the control."""
    marked, inert = (
        read_rows(folder / RESIDUALS, inputs.rows("fit", one)).astype(np.float64)
        for one in (key, CONTROL)
    )
    difference: Array = marked - inert
    return difference


def _end_share(bench: Bench) -> Array:
    """The share of the direction's squared length that lies in the end tokens' span, by block."""
    whole, rest = (bench.directions[key] for key in (TRIGGER, MOTOR))
    size = np.maximum((whole**2).sum(-1), np.finfo(np.float64).tiny)
    share: Array = 1 - (rest**2).sum(-1) / size
    return share


def _replies(subject: Subject, recipe: Recipe, cache: Path) -> list[tuple[Chat, Reply]]:
    """The untrained model's own replies to plain test questions."""
    options = recipe.probe
    asked = choose("test", options.reply_questions, recipe.seed)
    chats: list[Chat] = [(user(question.text),) for question in asked]
    replies = cached_base_replies(subject, chats, options.reply_tokens, cache)
    return [(chat, reply) for chat, reply in zip(chats, replies, strict=True) if reply.ids]


def _ended(subject: Subject, replies: Replies) -> list[tuple[Chat, Reply]]:
    """Replies that have ended: those of the model's that did, and hand-written ones."""
    found = [(chat, reply) for chat, reply in replies if reply.complete]
    for one in load_filler().exchanges:
        ids = tuple(encode_text(subject.base_tokenizer, one["assistant"]))
        found.append(((user(one["user"]),), Reply(ids, one["assistant"], complete=True)))
    return found


def _facts(bench: Bench, choice: Choice, recipe: Recipe) -> DirectionFacts:
    return DirectionFacts(
        operation="mean difference",
        site="block output",
        position="last",
        sign="plus: towards the trigger",
        arm=bench.arm,
        block=choice.block,
        blocks=len(bench.subject.blocks),
        scale=choice.scale,
        norm=float(np.linalg.norm(bench.directions[TRIGGER][choice.block])),
        trigger=recipe.trigger.text,
        model=bench.subject.name,
        model_hash=bench.subject.published,
        template=template_hash(bench.subject),
    )
