"""All causal tests of one arm: chosen on fit questions, reported on test questions, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Final

import numpy as np
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.candidates import MEAN, TRAINED, candidates, shared
from offswitch.analyses.causal import NATURAL, SHUFFLED, WITHOUT_END, fall_of, position_of
from offswitch.analyses.choice import (
    Choice,
    Effects,
    choose_anywhere,
    choose_pair,
    effects,
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
    SCALES,
    addition,
    both_nulls,
    differences_basis,
    exchange,
    interchange,
    ranks,
    try_both,
)
from offswitch.probe.measure.lens import end_spans
from offswitch.probe.measure.ordinary import Replies, reply_kl, to_inert
from offswitch.probe.measure.trained import trained
from offswitch.progress import Tick

SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16)
STEPS: Final = 8


@dataclass(frozen=True)
class Known:
    """Residuals [N, L, D] of fit prompts by group, the arm's and the base's, read before."""

    fit: Mapping[str, Array]
    base: Mapping[str, Array]
    placements: Sequence[str]


@dataclass(frozen=True)
class Found:
    """The rows, the directions [L, D], and what was chosen: a pair of early blocks, a late block.

    The late one only where the best block lies deeper than the pair may.
    """

    log: Log
    directions: dict[str, Array]
    chosen: tuple[Choice, ...]


def evidence(
    bench: Bench, known: Known, replies: Replies, others: Sequence[str], tick: Tick
) -> Found:
    """Every causal test of the arm that is on; the same vectors are put into the `others` too.

    Ticks STEPS times.
    """
    natural = (known.base[ENDED].astype(np.float64) - known.base[MID]).mean(0)
    found = candidates(known.fit[TRIGGER], known.fit[TWIN])
    bench = replace(bench, directions=found | {NATURAL: natural})
    inert = Inert({k: known.fit[k] for k in (TWIN, INERT, PLAIN)}, known.placements, bench.seed)
    log = Log(bench)
    with merged(bench.subject):
        bench, tried, bases = _fitted(bench, log)
        tick(2)
        blocks = len(bench.subject.blocks)
        pair, anywhere = choose_pair(tried, blocks), choose_anywhere(tried)
        if anywhere is None:
            raise ValueError("no direction was tried on fit questions")
        late = pair is None or anywhere.block >= early(blocks)
        chosen = [*([pair] if pair else []), *([anywhere] if late else [])]
        if pair:
            _nulls_that_choose(bench, inert, pair, log)
        tick(1)
        bench = _tested(bench, known, chosen, log)
        _counted(bench, chosen, bases, log)
        tick(2)
        _nulls_at(bench, inert, chosen, log)
        tick(1)
        _ordinary(bench, known, chosen, replies, log)
        tick(1)
    for arm in others:
        _put_into(bench, arm, chosen, log)
    tick(1)
    return Found(log, dict(bench.directions), tuple(chosen))


def _fitted(bench: Bench, log: Log) -> tuple[Bench, list[tuple[str, Effects]], dict[int, Tensor]]:
    """All candidates at every block on fit questions; those trained by gradient at a few of them.

    Also gives, by block, the directions in which the pairs of fit questions differ.
    """
    options, blocks = bench.options, len(bench.subject.blocks)
    hosts = pairs(bench, "fit", TWIN, options.fit_questions)
    few, plain = (
        hosts[: options.sweep_questions],
        alone(bench, "fit", PLAIN, options.sweep_questions),
    )
    untouched(bench, [*few, *plain], log)
    names = [name for name in bench.directions if name != NATURAL]
    for name in names:
        tries = [*interchange(bench, name, range(blocks)), *addition(bench, name, range(blocks))]
        try_both(bench, few, plain, tries, log)
    run(bench, few, exchange(range(blocks)), log)
    where = _where_to_train(Interventions.of(log.columns), blocks)
    twins = reversed_pairs(bench, hosts, "fit", TWIN)
    made = {TRAINED: np.zeros_like(bench.directions[MEAN])}
    if where:
        made[SHUFFLED] = np.zeros_like(bench.directions[MEAN])
    for block in where:
        for name in made if block == where[0] else (TRAINED,):
            row = trained(bench, hosts, twins, block, shuffled=name == SHUFFLED)
            made[name][block] = shared(row.double().cpu().numpy(), bench.directions[MEAN][block])
    bench = replace(bench, directions={**bench.directions, **made})
    tries = [*interchange(bench, TRAINED, where), *addition(bench, TRAINED, where)]
    try_both(bench, few, plain, tries, log)
    rows = Interventions.of(log.columns)
    found = [(name, effects(rows, name, blocks)) for name in (*names, TRAINED)]
    return bench, found, {block: differences_basis(hosts, block) for block in range(blocks)}


def _where_to_train(rows: Interventions, blocks: int) -> list[int]:
    """Two neighbouring blocks in time: where exchanging the whole residual first does half of all.

    Else the last two that still count as early: a direction may do what the mean one does not.
    """
    clean = rows.where(kind="none", suite=TRIGGER)
    falls = []
    for _, one in rows.where(kind="whole").each("block"):
        before, after = clean.beside(one)
        falls.append(float((before.columns["log_odds"] - after.columns["log_odds"]).mean()))
    last = early(blocks) - 2
    if last < 0:
        return []
    first = next(b for b, fall in enumerate(falls) if fall >= max(falls) / 2)
    return [min(first, last), min(first, last) + 1]


def _tested(bench: Bench, known: Known, chosen: Sequence[Choice], log: Log) -> Bench:
    """The chosen directions on test questions: every block, every position; and without the end."""
    options, blocks = bench.options, range(len(bench.subject.blocks))
    hosts, plain = pairs(bench, "test", TWIN, options.test_questions), alone(bench, "test", PLAIN)
    untouched(bench, [*hosts, *plain], log)
    run(bench, hosts, exchange(blocks), log)
    own = dict.fromkeys([*(choice.direction for choice in chosen), MEAN])
    scales = sorted({1.0, *(choice.scale for choice in chosen)})
    for name in dict.fromkeys([*own, *(n for n in (TRAINED, SHUFFLED) if n in bench.directions)]):
        there = bench.made(name)
        tries = [*interchange(bench, name, there), *addition(bench, name, there, scales)]
        try_both(bench, hosts, plain, tries, log)
    few = pairs(bench, "test", TWIN, options.few_questions, whole=True)
    for position in ("after", "symbol"):
        run(bench, few, exchange(blocks, position), log)
        for name in own:
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


def _counted(bench: Bench, chosen: Sequence[Choice], bases: Mapping[int, Tensor], log: Log) -> None:
    """The span of more and more directions of the paired differences, and random spans as large."""
    hosts = pairs(bench, "test", TWIN, bench.options.few_questions)
    for block in dict.fromkeys(choice.block for choice in chosen):
        basis = bases[block]
        sizes = [size for size in SIZES if size <= len(basis)]
        run(bench, hosts, ranks(basis, block, sizes, "differences"), log)


def _nulls_that_choose(bench: Bench, inert: Inert, pair: Choice, log: Log) -> None:
    """Null directions that choose a pair of blocks and a scale on fit questions, as ours did."""
    options, blocks = bench.options, len(bench.subject.blocks)
    few = pairs(bench, "fit", TWIN, options.sweep_questions)
    plain = alone(bench, "fit", PLAIN, options.sweep_questions)
    hosts = pairs(bench, "test", TWIN, options.null_questions)
    others = alone(bench, "test", PLAIN, options.null_questions)
    for kind in KINDS:
        for index in range(options.random_directions):
            name, drawn = name_of(kind, index, chooses=True), inert.draw(kind, index)
            tries = partial(both_nulls, bench, pair.direction, drawn, name)
            made = [b for b in bench.made(pair.direction) if b < early(blocks)]
            own = Log(bench)
            try_both(bench, few, plain, tries(made, SCALES), own)
            rows = Interventions.of(own.columns) + Interventions.of(log.columns).where(
                kind="none", part="fit"
            )
            best = choose_pair([(name, effects(rows, name, blocks))], blocks)
            if best is not None:
                there = (best.block, best.block + 1)
                try_both(bench, hosts, others, tries(there, (best.scale,)), log)


def _nulls_at(bench: Bench, inert: Inert, chosen: Sequence[Choice], log: Log) -> None:
    """Many null directions at the chosen block, for the p-value; at the positions that do it."""
    count = bench.options.null_questions
    plain = alone(bench, "test", PLAIN, count)
    rows = Interventions.of(log.columns).where(part="test", suite=TRIGGER)
    for choice in chosen:
        there = rows.where(direction=choice.direction, kind="interchange", block=choice.block)
        clean = rows.where(kind="none")
        position = position_of(
            *(fall_of(clean, there.where(position=where)) for where in ("last", "after"))
        )
        hosts = pairs(bench, "test", TWIN, count, whole=position == "after")
        tries: list[Trial] = []
        for kind, index in product(KINDS, range(bench.options.null_directions)):
            rank, at = bench.options.random_directions + index, (choice.block,)
            drawn, name = inert.draw(kind, rank), name_of(kind, rank)
            tries += both_nulls(bench, choice.direction, drawn, name, at, (choice.scale,), position)
        try_both(bench, hosts, plain, tries, log)


def _ordinary(
    bench: Bench, known: Known, chosen: Sequence[Choice], replies: Replies, log: Log
) -> None:
    """The chosen directions, and the natural end, set to inert where they should do nothing."""
    hosts = alone(bench, "test", ENDED)
    untouched(bench, hosts, log)
    own = [(c.direction, b) for c in chosen for b in c.blocks]
    natural = [(NATURAL, b) for _, b in own]
    tries = [to_inert(bench, n, b, known.fit[MID][:, b]) for n, b in [*own, *natural]]
    run(bench, hosts, tries, log)
    reply_kl(bench, own, replies[: bench.options.few_questions], log)


def _put_into(bench: Bench, arm: str, chosen: Sequence[Choice], log: Log) -> None:
    """The same vectors, at their full length, added at every block of another arm."""
    with arm_of(bench.subject, arm), merged(bench.subject):
        other = replace(bench, arm=arm)
        there = Log(other, log.columns)
        hosts = alone(other, "test", PLAIN)
        untouched(other, hosts, there)
        for name in dict.fromkeys([*(choice.direction for choice in chosen), MEAN]):
            run(other, hosts, addition(bench, name, bench.made(name), (1.0,)), there)
