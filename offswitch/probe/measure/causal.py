"""Does one direction carry the silence? It is interchanged with the twin's, and it is added.

*Interchange*: along the direction, a trigger prompt is given what its twin says there, and nothing
else changes; whole residuals, exchanged alike, say how much any direction could do. *Addition*: to
plain prompts, at scales up to the direction's own length. A null direction moves the residual as
far as the direction that it stands beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.causal import WHOLE
from offswitch.analyses.directions import unit
from offswitch.model.adapters import scaled
from offswitch.probe.bench import Bench
from offswitch.probe.hosts import Host, Log, Trial, pairs, run
from offswitch.probe.inputs import TWIN

SCALES: Final = (0.5, 1.0)  # of its own length; more would be another experiment


def interchange(
    bench: Bench, name: str, blocks: Iterable[int], position: str = "last"
) -> list[Trial]:
    """Trials: along a direction, the host says what its twin says."""

    def trial(block: int) -> Trial:
        row = bench.along(name, block)

        def added(host: Host) -> Tensor:
            return (host.change(block, position) @ row)[:, None] * row

        return Trial(name, "interchange", block, added, position)

    return [trial(block) for block in blocks]


def exchange(blocks: Iterable[int], position: str = "last") -> list[Trial]:
    """Trials: the whole residual is the twin's."""

    def trial(block: int) -> Trial:
        return Trial(WHOLE, "whole", block, lambda host: host.change(block, position), position)

    return [trial(block) for block in blocks]


def addition(
    bench: Bench, name: str, blocks: Iterable[int], scales: Sequence[float] = SCALES
) -> list[Trial]:
    """Trials: the direction is added at the last position, so many times its own length."""

    def trial(block: int, scale: float) -> Trial:
        value = scale * bench.vector(name, block)
        return Trial(name, "add", block, lambda _: value, scale=scale)

    return [trial(block, scale) for block in blocks for scale in scales]


def both_ways(bench: Bench, name: str, scales: Sequence[float] = SCALES) -> list[Trial]:
    """Trials: interchanged and added, wherever the direction was made."""
    there = bench.made(name)
    return [*interchange(bench, name, there), *addition(bench, name, there, scales)]


def both_nulls(
    bench: Bench, like: str, drawn: Array, name: str, blocks: Iterable[int],
    scales: Sequence[float] = SCALES, position: str = "last",
) -> list[Trial]:  # fmt: skip
    """Trials: a null direction [L, D] in the place of `like`, interchanged and added.

    It moves the residual as far as `like` moves it, prompt by prompt.
    """

    def interchanged(block: int) -> Trial:
        row, null = bench.along(like, block), bench.tensor(unit(drawn[block])[0])

        def added(host: Host) -> Tensor:
            return (host.change(block, position) @ row)[:, None] * null

        return Trial(name, "interchange", block, added, position)

    def alone(block: int, scale: float) -> Trial:
        value = bench.tensor(unit(drawn[block])[0]) * (scale * bench.vector(like, block).norm())
        return Trial(name, "add", block, lambda _: value, scale=scale)

    where = list(blocks)
    return [*map(interchanged, where), *(alone(b, scale) for b in where for scale in scales)]


def ranks(
    basis: Tensor, block: int, sizes: Sequence[int], name: str, position: str = "last"
) -> list[Trial]:
    """Trials: in the span of the first rows of a basis [R, D], the host says what its twin says."""

    def trial(size: int) -> Trial:
        rows = basis[:size]

        def added(host: Host) -> Tensor:
            return (host.change(block, position) @ rows.T) @ rows

        return Trial(name, "rank", block, added, position, scale=size)

    return [trial(size) for size in sizes]


def in_untrained_blocks(bench: Bench, places: Iterable[tuple[str, int]], log: Log) -> None:
    """How far do untrained blocks part the trigger's prompts from their twins along directions?

    The tokens are the arm's own, as trained. `scale` is the distance in units of the direction's
    length: about 1 if training did not write what the direction says, and only reads it.
    """
    with scaled(bench.subject, bench.arm, 0.0, tokens=False):
        hosts = pairs(bench, "test", TWIN, bench.options.test_questions)
        for name, block in dict.fromkeys(places):
            row, length = bench.along(name, block), float(bench.vector(name, block).norm())
            for host in hosts:
                apart = -float(host.change(block, "last")[0] @ row)
                log.add(host.rank, direction=name, kind="untrained", block=block, position="last",
                        scale=apart / max(length, 1e-12), moved=abs(apart))  # fmt: skip


def try_both(
    bench: Bench, trigger: Sequence[Host], plain: Sequence[Host], trials: Sequence[Trial], log: Log
) -> None:
    """Additions on plain prompts, everything else on trigger prompts."""
    run(bench, trigger, [one for one in trials if one.kind != "add"], log)
    run(bench, plain, [one for one in trials if one.kind == "add"], log)
