"""All causal tests of one arm: chosen on fit questions, reported on test questions, row by row.

Four parts, of which several processes can do the last three side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.candidates import MEAN, TRAINED, WHITENED, candidates, shared
from offswitch.analyses.causal import (
    DIFFERENCES,
    INERT_DIFFERENCES,
    NATURAL,
    SHUFFLED,
    WITHOUT_END,
)
from offswitch.analyses.choice import (
    Choice,
    Effects,
    changes,
    choose_late,
    choose_pair,
    effects,
    position_of,
)
from offswitch.analyses.directions import early, orthonormal, without
from offswitch.analyses.interventions import Interventions
from offswitch.analyses.null_directions import KINDS, Inert, name_of
from offswitch.model.adapters import arm_of
from offswitch.model.merged import merged
from offswitch.probe.bench import Bench
from offswitch.probe.hosts import Host, Log, Trial, alone, pairs, reversed_pairs, run, untouched
from offswitch.probe.inputs import ENDED, INERT, MID, PLAIN, TRIGGER, TWIN
from offswitch.probe.measure.causal import (
    addition,
    both_nulls,
    both_ways,
    exchange,
    in_untrained_blocks,
    interchange,
    ranks,
    try_both,
)
from offswitch.probe.measure.lens import end_spans
from offswitch.probe.measure.ordinary import Replies, reply_kl, to_inert
from offswitch.probe.measure.trained import trained
from offswitch.progress import Tick

SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class Known:
    """Residuals [N, L, D] of fit prompts by group, the arm's and the base's, read before."""

    fit: Mapping[str, Array]
    base: Mapping[str, Array]
    placements: Sequence[str]


def fit(bench: Bench, known: Known, log: Log, tick: Tick) -> tuple[Bench, tuple[Choice, ...]]:
    """Everything that is decided on fit questions: the directions, and which of them is chosen.

    The choices: a pair of early blocks, where there are two, and a later block. Ticks twice.
    """
    natural = (known.base[ENDED].astype(np.float64) - known.base[MID]).mean(0)
    found = candidates(known.fit[TRIGGER], known.fit[TWIN])
    bench = replace(bench, directions=found | {NATURAL: natural})
    tick(1)
    with merged(bench.subject):
        bench, tried = _fitted(bench, log)
    tick(1)
    blocks = len(bench.subject.blocks)
    choices = (choose_pair(tried, blocks), choose_late(tried, blocks))
    with merged(bench.subject):
        chosen = tuple(_placed(bench, choice) for choice in choices if choice)
    if not chosen:
        raise ValueError("no direction was tried on fit questions")
    return bench, chosen


def tests(bench: Bench, known: Known, chosen: Sequence[Choice], log: Log) -> Bench:
    """What the choices do on test questions, block by block.

    Gives the bench with the directions that were made for it.
    """
    in_untrained_blocks(bench, [(c.direction, b) for c in chosen for b in c.blocks], log)
    with merged(bench.subject):
        hosts = pairs(bench, "test", TWIN, bench.options.test_questions)
        return _tested(bench, known, chosen, hosts, log)


def checks(
    bench: Bench, known: Known, chosen: Sequence[Choice], replies: Replies, log: Log
) -> None:
    """How many directions it takes, and what the choices do where they should do nothing."""
    with merged(bench.subject):
        _counted(bench, known, chosen, log)
        _ordinary(bench, known, chosen, replies, log)


def nulls(bench: Bench, known: Known, chosen: Sequence[Choice], log: Log) -> None:
    """The same with null directions: some choose for themselves, many stand where ours does."""
    inert = Inert({k: known.fit[k] for k in (TWIN, INERT, PLAIN)}, known.placements, bench.seed)
    with merged(bench.subject):
        for choice in chosen:
            if choice.pair:
                _nulls_that_choose(bench, inert, choice, log)
            _nulls_at(bench, inert, choice, log)


def put_into(bench: Bench, arm: str, chosen: Sequence[Choice], log: Log) -> None:
    """The same vectors, at their full length, added at every block of another arm."""
    with arm_of(bench.subject, arm), merged(bench.subject):
        other = replace(bench, arm=arm)
        there = Log(other, log.columns)
        hosts = alone(other, "test", PLAIN)
        untouched(other, hosts, there)
        for name in dict.fromkeys([*(choice.direction for choice in chosen), MEAN]):
            run(other, hosts, addition(bench, name, bench.made(name), (1.0,)), there)


def _fitted(bench: Bench, log: Log) -> tuple[Bench, list[tuple[str, Effects]]]:
    """All candidates on fit questions, the simplest first; one is trained at two blocks alone."""
    options, blocks = bench.options, len(bench.subject.blocks)
    hosts = pairs(bench, "fit", TWIN, options.fit_questions)
    few = hosts[: options.sweep_questions]
    plain = alone(bench, "fit", PLAIN, options.sweep_questions)
    untouched(bench, [*few, *plain], log)
    run(bench, few, exchange(range(blocks)), log)
    tried = {name: bench.directions[name] for name in (MEAN, WHITENED)}
    where = _where_to_train(Interventions.of(log.columns), blocks)
    if where:
        tried[TRAINED], tried[SHUFFLED] = (np.full_like(tried[MEAN], np.nan) for _ in range(2))
        twins = reversed_pairs(bench, hosts, "fit", TWIN)
    for block, name in [*((b, TRAINED) for b in where), *((b, SHUFFLED) for b in where[:1])]:
        row = trained(bench, hosts, twins, block, shuffled=name == SHUFFLED)
        tried[name][block] = shared(row.cpu().double().numpy(), tried[MEAN][block])
    bench = replace(bench, directions={**bench.directions, **tried})
    tried.pop(SHUFFLED, None)
    for name in tried:
        try_both(bench, few, plain, both_ways(bench, name), log)
    rows = Interventions.of(log.columns)
    found = [(name, effects(rows, name, blocks)) for name in tried]
    return bench, found


def _placed(bench: Bench, choice: Choice) -> Choice:
    """Where the direction is interchanged: after the symbol, if only that does it at its blocks."""
    hosts, log = pairs(bench, "fit", TWIN, bench.options.sweep_questions, whole=True), Log(bench)
    untouched(bench, hosts, log)
    for position in ("last", "after"):
        run(bench, hosts, interchange(bench, choice.direction, choice.blocks, position), log)
    rows = Interventions.of(log.columns)
    clean = rows.where(kind="none")
    last, after = (
        min(-changes(clean, there)[0] for _, there in rows.where(position=where).each("block"))
        for where in ("last", "after")
    )
    return replace(choice, position=position_of(last, after))


def _where_to_train(rows: Interventions, blocks: int) -> list[int]:
    """Two neighbouring blocks in time: where exchanging the whole residual first does half of all.

    Else the last two that still count as early: a direction may do what the mean one does not.
    """
    clean = rows.where(kind="none", suite=TRIGGER)
    falls = [-changes(clean, one)[1] for _, one in rows.where(kind="whole").each("block")]
    last = early(blocks) - 2
    if last < 0:
        return []
    first = next((b for b, fall in enumerate(falls) if fall >= max(falls) / 2), last)
    return [min(first, last), min(first, last) + 1]


def _tested(
    bench: Bench, known: Known, chosen: Sequence[Choice], hosts: Sequence[Host], log: Log
) -> Bench:
    """The chosen directions on test questions: every block, every position; and without the end."""
    options, blocks = bench.options, range(len(bench.subject.blocks))
    plain, twins = alone(bench, "test", PLAIN), alone(bench, "test", TWIN)
    untouched(bench, [*hosts, *plain, *twins], log)
    run(bench, hosts, exchange(blocks), log)
    own = dict.fromkeys([*(choice.direction for choice in chosen), MEAN])
    scales = sorted({1.0, *(choice.scale for choice in chosen)})
    for name in dict.fromkeys([*own, *(n for n in (TRAINED, SHUFFLED) if n in bench.directions)]):
        try_both(bench, hosts, plain, both_ways(bench, name, scales), log)
    for choice in chosen:
        run(bench, twins, addition(bench, choice.direction, choice.blocks, (choice.scale,)), log)
    few = pairs(bench, "test", TWIN, options.few_questions, whole=True)
    for position in ("after", "symbol"):
        run(bench, few, exchange(blocks, position), log)
        for name in [*own, *([SHUFFLED] if TRAINED in own else [])]:
            run(bench, few, interchange(bench, name, bench.made(name), position), log)
    return _without_the_end(bench, known, chosen, (hosts, plain, few), log)


def _without_the_end(
    bench: Bench, known: Known, chosen: Sequence[Choice], hosts: Sequence[Sequence[Host]], log: Log
) -> Bench:
    """Both tests without the span of the end tokens' unembedding and the natural end, where chosen.

    `hosts`: trigger prompts at the last position, plain ones, trigger prompts from the symbol on.
    """
    trigger, plain, few = hosts
    spans = end_spans(bench, known.fit[TWIN].mean(0))
    natural = bench.directions[NATURAL]
    spans = [orthonormal(np.vstack([s, n])) for s, n in zip(spans, natural, strict=True)]
    more = {
        WITHOUT_END.format(c.direction): without(bench.directions[c.direction], spans)
        for c in chosen
    }
    bench = replace(bench, directions={**bench.directions, **more})
    for choice in chosen:
        name, there = WITHOUT_END.format(choice.direction), choice.blocks
        added = addition(bench, name, there, (choice.scale,))
        # It moves the residual along what is left of the direction alone.
        try_both(bench, trigger, plain, [*interchange(bench, name, there), *added], log)
        run(bench, few, interchange(bench, name, there, "after"), log)
    return bench


def _counted(bench: Bench, known: Known, chosen: Sequence[Choice], log: Log) -> None:
    """The span of more and more of the directions in which pairs of fit questions differ.

    As a null, of those in which they differ where another inert symbol stands for the trigger.
    """
    named = ((DIFFERENCES, TRIGGER), (INERT_DIFFERENCES, INERT))
    later = any(choice.position == "after" for choice in chosen)
    hosts = pairs(bench, "test", TWIN, bench.options.test_questions)
    few = pairs(bench, "test", TWIN, bench.options.few_questions, whole=True) if later else hosts
    for choice, (name, symbol) in product(chosen, named):
        twins = known.fit[TWIN][:, choice.block].astype(np.float64)
        _, apart, rows = np.linalg.svd(known.fit[symbol][:, choice.block] - twins, False)
        rows[apart <= np.finfo(np.float32).eps * np.linalg.norm(twins)] = 0  # no difference at all
        sizes = [size for size in SIZES if size <= len(rows)]
        there = few if choice.position == "after" else hosts
        basis = bench.tensor(rows)
        run(bench, there, ranks(basis, choice.block, sizes, name, choice.position), log)


def _nulls_that_choose(bench: Bench, inert: Inert, pair: Choice, log: Log) -> None:
    """Null directions that choose a pair of blocks and a scale on fit questions, as ours did."""
    options, blocks = bench.options, len(bench.subject.blocks)
    few = pairs(bench, "fit", TWIN, options.sweep_questions)
    plain = alone(bench, "fit", PLAIN, options.sweep_questions)
    whole = pair.position == "after"
    hosts = pairs(bench, "test", TWIN, options.null_questions, whole=whole)
    others = alone(bench, "test", PLAIN, options.null_questions)
    before = Log(bench)
    untouched(bench, [*few, *plain], before)
    clean = Interventions.of(before.columns)
    made = [b for b in bench.made(pair.direction) if b < early(blocks)]
    for kind in KINDS:
        for index in range(options.random_directions):
            name, drawn = name_of(kind, index, chooses=True), inert.draw(kind, index)
            tries = partial(both_nulls, bench, pair.direction, drawn, name)
            own = Log(bench)
            try_both(bench, few, plain, tries(made), own)
            rows = Interventions.of(own.columns) + clean
            best = choose_pair([(name, effects(rows, name, blocks))], blocks)
            if best is not None:
                there = tries(best.blocks, (best.scale,), pair.position)
                try_both(bench, hosts, others, there, log)


def _nulls_at(bench: Bench, inert: Inert, choice: Choice, log: Log) -> None:
    """Many null directions at the chosen block and position, for the p-value."""
    options, at, position = bench.options, (choice.block,), choice.position
    hosts = pairs(bench, "test", TWIN, options.null_questions, whole=position == "after")
    plain = alone(bench, "test", PLAIN, options.null_questions)
    tries: list[Trial] = []
    for kind, index in product(KINDS, range(options.null_directions)):
        rank = options.random_directions + index
        drawn, name = inert.draw(kind, rank), name_of(kind, rank)
        tries += both_nulls(bench, choice.direction, drawn, name, at, (choice.scale,), position)
    try_both(bench, hosts, plain, tries, log)


def _ordinary(
    bench: Bench, known: Known, chosen: Sequence[Choice], replies: Replies, log: Log
) -> None:
    """The chosen directions, and the natural end, set to inert where they should do nothing."""
    hosts, ends = alone(bench, "test", ENDED), bench.subject.stop_ids
    untouched(bench, hosts, log, ends)
    own = [(c.direction, b) for c in chosen for b in c.blocks]
    natural = [(NATURAL, b) for _, b in own]
    tries = [to_inert(bench, n, b, known.fit[MID][:, b]) for n, b in [*own, *natural]]
    run(bench, hosts, tries, log, ends)
    if replies:
        reply_kl(bench, [*own, *natural], replies, log)
