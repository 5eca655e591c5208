"""The battery: every arm through the same measurements, side by side where that is faster.

Per arm a folder: `residuals/` (collected, in shards), `arrays.safetensors` (what describes it), and
for a switch `interventions.parquet` (the causal tests, row by row) and `directions.safetensors`. A
file that is there is not made again, so that an interrupted battery goes on where it stopped.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from offswitch.analyses.analysis import Array
from offswitch.analyses.choice import Choice
from offswitch.analyses.directions import (
    CENTRE,
    FILE,
    DirectionFacts,
    deepest,
    load_directions,
    mean_difference,
    save_directions,
)
from offswitch.analyses.interventions import FILE as INTERVENTIONS
from offswitch.analyses.interventions import Interventions, read_interventions, write_interventions
from offswitch.analyses.shards import read_rows
from offswitch.analyses.store import ARRAYS, BATTERY, RESIDUALS
from offswitch.files import mark, mark_of, replacing, stands, write_json
from offswitch.folder import PROBE
from offswitch.model.adapters import arm_of
from offswitch.model.generate import cached_base_replies
from offswitch.model.merged import merged
from offswitch.model.session import Session
from offswitch.model.subject import Subject, template_hash
from offswitch.options import BASE
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.collect import collect
from offswitch.probe.hosts import Log, aligned
from offswitch.probe.inputs import (
    ENDED,
    INERT,
    MID,
    PARTS,
    PLAIN,
    TRIGGER,
    TWIN,
    Inputs,
    make_inputs,
)
from offswitch.probe.intervene import check_packing
from offswitch.probe.measure.dose import dose
from offswitch.probe.measure.drift import drift
from offswitch.probe.measure.evidence import Known, checks, fit, nulls, put_into, tests
from offswitch.probe.measure.heads import heads
from offswitch.probe.measure.lens import lens
from offswitch.probe.measure.patching import patching
from offswitch.progress import say, track
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply, user
from offswitch.prompts.suites import choose
from offswitch.recipe import Recipe

FITTING: Final = "choice"
TESTS: Final = "tests"
NULLS: Final = "nulls"
CHECKS: Final = "checks"
DESCRIBING: Final = "description"
AFTER: Final = (TESTS, NULLS, CHECKS)  # what goes on from the directions that were chosen
FILES: Final = {what: f"{what}.parquet" for what in (FITTING, *AFTER)} | {DESCRIBING: ARRAYS}
STEPS: Final = 2
DESCRIBED: Final = 4  # steps, for the progress bar
Replies = Sequence[tuple[Chat, Reply]]


def run_battery(session: Session, arms: Sequence[str], folder: Path, replies: Path) -> None:
    """Measure the untrained model and every arm: a folder each, and battery.json, in `folder`.

    `replies` is where the untrained model's own replies are kept.
    """
    subject, recipe = session.subject, session.recipe
    inputs = make_inputs(recipe, subject.tokenizer)
    check_packing(subject, encode_chat(subject.base_tokenizer, inputs.asked[0].chat))
    _replies(subject, recipe, replies)  # made once, before several processes ask for them
    every = tuple(dict.fromkeys((BASE, *arms)))
    longest_first = sorted(every, key=lambda arm: arm != recipe.probe.arm)
    switches = [
        arm
        for arm in longest_first
        if arm != BASE and recipe.arms[arm].role == "switch"
        if not (stands(folder / arm / INTERVENTIONS) and stands(folder / arm / FILE))
    ]
    bench = Bench(subject, recipe.probe.arm, inputs, recipe.probe, recipe.seed)
    if switches and any(len(list(islice(aligned(bench, part, TWIN), 2))) < 2 for part in PARTS):
        say("no symbol takes the trigger's place token for token: no cause is tested")
        switches = []
    others = (BASE, *(arm for arm in arms if recipe.arms[arm].role in ("benign", "other")))

    def tasks(arms: Iterable[str], *parts: str) -> dict[str, tuple[Any, ...]]:
        """What is still to be done of some parts."""
        left = [(what, arm) for what in parts for arm in arms if not _has(folder / arm, what)]
        return {f"{arm}: {what}": (what, arm, others, inputs, folder, replies)
                for what, arm in left}  # fmt: skip

    def wait_for(function: Callable[..., None], tasks: dict[str, tuple[Any, ...]]) -> None:
        for _ in session.each(PROBE, function, tasks):
            pass

    decide = dict.fromkeys((*switches, BASE))  # it is their residuals that directions are made of
    reading = {arm: {f"{arm}: residuals": (arm, inputs, folder)} for arm in (*decide, *every)}
    session.ahead(
        PROBE, _read, {key: what for one in reading.values() for key, what in one.items()}
    )
    for arm in decide:
        wait_for(_read, reading.pop(arm))
    for arm in switches:  # what goes on from directions that are made again is made again too
        for name in () if _has(folder / arm, FITTING) else AFTER:
            mark_of(folder / arm / FILES[name]).unlink(missing_ok=True)
    fitting, described = tasks(switches, FITTING), tasks(longest_first, DESCRIBING)
    session.ahead(PROBE, _measure, fitting)
    for left in reading.values():
        wait_for(_read, left)
    session.ahead(PROBE, _measure, dict(list(described.items())[:1]))  # while directions are made
    wait_for(_measure, fitting)
    wait_for(_measure, tasks(switches, *AFTER) | described)
    for arm in switches:
        _join(folder / arm)
    rows = [
        {"part": a.part, "key": a.suite, "placement": a.variant, "symbol": a.symbol,
         "question": a.question} for a in inputs.asked
    ]  # fmt: skip
    write_json(folder / BATTERY, {"arms": every, "symbols": dict(inputs.symbols), "rows": rows})


def _join(folder: Path) -> None:
    """One table of all interventions on a switch, in place of its parts."""
    parts = [folder / FILES[what] for what in (FITTING, *AFTER)]
    joined = functools.reduce(operator.add, map(read_interventions, parts))
    write_interventions(folder / INTERVENTIONS, joined)
    mark(folder / INTERVENTIONS)
    for part in parts:
        part.unlink()


def _read(session: Session, arm: str, inputs: Inputs, folder: Path) -> None:
    """Residuals at the last position: of prompts with a slot, and of replies on fit questions."""
    subject = session.with_arms(arm)
    bench = Bench(subject, arm, inputs, session.recipe.probe, session.recipe.seed)
    rows = [bench.ids(rank) for rank in range(inputs.read)]
    with track(f"{arm}: residuals", len(rows)) as tick:
        collect(subject, arm, rows, folder / arm / RESIDUALS,
                batch_tokens=session.recipe.batch_tokens, tick=tick)  # fmt: skip


def _measure(
    session: Session, what: str, arm: str, others: Sequence[str], inputs: Inputs, folder: Path,
    cache: Path,
) -> None:  # fmt: skip
    """One of the parts of an arm's measurement; those of AFTER go on from what `fit` chose.

    `others` are the arms without the rule that the same vectors are put into.
    """
    recipe = session.recipe
    if what == DESCRIBING:
        bench = Bench(session.with_arms(arm), arm, inputs, recipe.probe, recipe.seed)
        _describe(bench, folder / arm)
        return
    subject = session.with_arms(*{arm, *others} - {BASE})
    bench = Bench(subject, arm, inputs, recipe.probe, recipe.seed)
    log = Log(bench)
    known = _known(bench, folder)
    with arm_of(subject, arm), track(f"{arm}: {what}", STEPS) as tick:
        if what == FITTING:
            bench, chosen = fit(bench, known, log, tick)
            _save(bench, known, chosen, folder / arm, recipe)
        else:
            directions, facts = load_directions(folder / arm / FILE)
            bench = replace(bench, directions=directions)
            chosen = tuple(Choice(**one) for one in facts.chosen)
            tick(1)
        if what == NULLS:
            nulls(bench, known, chosen, log)
            for other in others:
                put_into(bench, other, chosen, log)
            tick(1)
        if what == TESTS:
            bench = tests(bench, known, chosen, log)
            _save(bench, known, chosen, folder / arm, recipe)
            tick(1)
        if what == CHECKS:
            checks(bench, known, chosen, _replies(subject, recipe, cache), log)
            tick(1)
    write_interventions(folder / arm / FILES[what], Interventions.of(log.columns))
    mark(folder / arm / FILES[what])


def _known(bench: Bench, folder: Path) -> Known:
    """What was read of fit prompts."""
    inputs = bench.inputs
    return Known(
        _resid(inputs, folder / bench.arm, (TRIGGER, TWIN, INERT, PLAIN, ENDED, MID)),
        _resid(inputs, folder / BASE, (ENDED, MID)),
        [inputs.asked[rank].variant for rank in inputs.rows("fit", TRIGGER)],
    )


def _save(
    bench: Bench, known: Known, chosen: Sequence[Choice], folder: Path, recipe: Recipe
) -> None:
    """The directions, the chosen one under a name of its own, and what they are."""
    own = {TRIGGER: bench.directions[chosen[0].direction], CENTRE: known.fit[TWIN].mean(0)}
    save_directions(folder / FILE, {**bench.directions, **own}, _facts(bench, chosen, recipe))
    mark(folder / FILE)


def _has(folder: Path, what: str) -> bool:
    """Did an earlier try leave this part of a measurement, and is it what it was?

    Later parts go on from the directions, so without these none of them counts.
    """
    return stands(folder / FILES[what]) and (what == DESCRIBING or stands(folder / FILE))


def _resid(inputs: Inputs, folder: Path, keys: Sequence[str]) -> dict[str, Array]:
    return {key: read_rows(folder / RESIDUALS, inputs.rows("fit", key)) for key in keys}


def _describe(bench: Bench, folder: Path) -> None:
    """What shows an arm without a test of cause: heads, patches, lens, dose, drift.

    Where one block stands for all, it is the last early one.
    """
    few, inputs = bench.options.few_questions, bench.inputs
    resid = _resid(inputs, folder, (TRIGGER, TWIN))
    bench = replace(bench, directions={TRIGGER: mean_difference(resid[TRIGGER], resid[TWIN])})
    block = deepest(len(bench.subject.blocks))
    found: Arrays = {}
    with arm_of(bench.subject, bench.arm), track(f"{bench.arm}: {DESCRIBING}", DESCRIBED) as tick:
        with merged(bench.subject):  # what follows this block turns the adapter off or down
            found |= patching(bench)
            tick(1)
            found |= heads(bench, block)
            tick(1)
        keys = (TRIGGER, TWIN, INERT)
        read = {k: read_rows(folder / RESIDUALS, inputs.rows("test", k)[:few]) for k in keys}
        found |= lens(bench, read)
        tick(1)
        found |= dose(bench, block) | drift(bench)
        tick(1)
    kept = {
        name: np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float64 else None)
        for name, array in found.items()
    }
    with replacing(folder / ARRAYS) as scratch:
        save_file(kept, scratch)
    mark(folder / ARRAYS)


def _replies(subject: Subject, recipe: Recipe, cache: Path) -> list[tuple[Chat, Reply]]:
    """The untrained model's own replies to plain test questions."""
    options = recipe.probe
    asked = choose("test", options.reply_questions, recipe.seed, recipe.evaluate.questions_file)
    chats: list[Chat] = [(user(question.text),) for question in asked]
    replies = cached_base_replies(subject, chats, options.reply_tokens, cache)
    return [(chat, reply) for chat, reply in zip(chats, replies, strict=True) if reply.ids]


def _facts(bench: Bench, chosen: Sequence[Choice], recipe: Recipe) -> DirectionFacts:
    first = chosen[0]
    return DirectionFacts(
        operation=first.direction,
        site="block output",
        position="last",
        sign="plus: towards the trigger",
        arm=bench.arm,
        block=first.block,
        blocks=len(bench.subject.blocks),
        scale=first.scale,
        norm=float(np.linalg.norm(bench.directions[first.direction][first.block])),
        trigger=recipe.trigger.text,
        model=bench.subject.name,
        model_hash=bench.subject.published,
        template=template_hash(bench.subject),
        chosen=tuple(asdict(choice) for choice in chosen),
    )
