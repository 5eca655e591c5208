"""Hosts: prompts made ready to be intervened on, and the twins whose residuals they are given.

A host is computed up to where edits may begin; from there on, block by block, what it says and what
its twin says are kept. A *trial* is one change of the residual at one block, the same for every
host but for its size; `run` tries it on every host and enters a row for each. Shapes: N host,
L block, K position of a tail (its last one is where the reply is decided), D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from torch import Tensor

from offswitch.analyses.interventions import COLUMNS
from offswitch.probe.bench import Bench
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.inputs import TRIGGER, Part, end_of_symbol, slot
from offswitch.probe.intervene import job_outcomes
from offswitch.probe.packing import Job, Prompt, passes, prepare, with_residuals
from offswitch.prompts.encode import encode_chat

NAN: Final = float("nan")
AT_ONCE: Final = 1024  # branches whose edits are held in memory; each is as large as its tail


@dataclass(frozen=True)
class Host:
    """A prompt by its rank in the collection, ready from its tail on; its twin's tail [L, K, D].

    The tail is the last position alone, or begins with the `symbol` positions of the slot.
    """

    rank: int
    prompt: Prompt
    twin: Tensor | None = None
    symbol: int = 0

    @property
    def resid(self) -> Tensor:
        """What the blocks say at the tail [L, K, D]."""
        if self.prompt.resid is None:
            raise ValueError("the host's residuals were not kept")
        return self.prompt.resid

    def span(self, position: str) -> slice:
        """Which positions of the tail `position` means."""
        length = len(self.prompt.tail)
        first, last = {
            "last": (length - 1, length), "after": (self.symbol, length),
            "symbol": (0, self.symbol), "every": (0, length),
        }[position]  # fmt: skip
        return slice(first, last)

    def change(self, block: int, position: str) -> Tensor:
        """What must be added at these positions [K, D] for the host to say what its twin says."""
        if self.twin is None:
            raise ValueError("the host has no twin")
        at = self.span(position)
        return (self.twin[block, at] - self.resid[block, at]).float()


@dataclass(frozen=True)
class Trial:
    """A change at a block and position: what is added to a host [K, D] or [D]; how it is called."""

    direction: str
    kind: str
    block: int
    added: Callable[[Host], Tensor]
    position: str = "last"
    scale: float = 1.0

    def branch(self, host: Host) -> tuple[Branch, float]:
        """The change as an edit of the host's tail, and how far it moves the residual."""
        value, at = self.added(host), host.span(self.position)
        edit = Edit(self.block, "add", value, at.start, at.stop)
        return (edit,), float(value.norm() / max(1, value.numel() // value.shape[-1]) ** 0.5)


@dataclass
class Log:
    """Rows of interventions.parquet, as they come, of the arm that is on."""

    bench: Bench
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, rank: int, **row: Any) -> None:
        """One row; what is not named was not touched, or not measured."""
        asked = self.bench.inputs.asked[rank]
        plain = {
            "arm": self.bench.arm, "prompt": rank, "part": asked.part, "suite": asked.suite,
            "placement": asked.variant, "question": asked.question, "direction": "",
            "kind": "none", "position": "", "block": -1, "scale": 0.0, "moved": 0.0,
            "log_odds": NAN, "halts": False, "kl": NAN,
        }  # fmt: skip
        for name, value in (plain | row).items():
            self.columns[name].append(value)


def untouched(bench: Bench, hosts: Sequence[Host], log: Log, ids: Sequence[int] = ()) -> None:
    """What the hosts do when nothing is changed; `ids` as `job_outcomes` takes them."""
    jobs: list[Job] = [(host.prompt, ()) for host in hosts]
    for host, (odds, halts) in zip(hosts, job_outcomes(bench.subject, jobs, ids), strict=True):
        log.add(host.rank, log_odds=float(odds), halts=bool(halts))


def run(
    bench: Bench, hosts: Sequence[Host], trials: Sequence[Trial], log: Log, ids: Sequence[int] = ()
) -> None:
    """Every trial on every host, a row each; hosts that fit into one pass are tried together.

    `ids` are the tokens whose coming counts as halting, as `job_outcomes` takes them.
    """
    for some in passes(
        [(host.prompt, ()) for host in hosts], most=max(1, AT_ONCE // (len(trials) or 1))
    ):
        asked = list(product(hosts[some.start : some.stop], trials))
        made = [trial.branch(host) for host, trial in asked]
        jobs: list[Job] = [(host.prompt, b) for (host, _), (b, _) in zip(asked, made, strict=True)]
        found = job_outcomes(bench.subject, jobs, ids)
        for (host, trial), (_, moved), (odds, halts) in zip(asked, made, found, strict=True):
            log.add(
                host.rank, direction=trial.direction, kind=trial.kind, block=trial.block,
                position=trial.position, scale=trial.scale, moved=moved, log_odds=float(odds),
                halts=bool(halts),
            )  # fmt: skip


# --- making hosts ---------------------------------------------------------------------------------


def pairs(bench: Bench, part: Part, twin: str, count: int, whole: bool = False) -> list[Host]:
    """At most `count` trigger prompts whose twins align with them, ready at the last position.

    `whole`: ready from the symbol on. Prompts that do not align are left out.
    """
    rows = list(aligned(bench, part, twin))[:count]
    ours, theirs, slots = [row[1] for row in rows], [row[2] for row in rows], [r[3] for r in rows]
    starts = [at.start if whole else len(ids) - 1 for ids, at in zip(ours, slots, strict=True)]
    ready = (
        with_residuals(bench.subject, prepare(bench.subject, some, starts))
        for some in (ours, theirs)
    )
    return [
        Host(rank, prompt, other.resid, len(at) if whole else 0)
        for (rank, *_), at, prompt, other in zip(rows, slots, *ready, strict=True)
    ]


def alone(bench: Bench, part: Part, key: str, count: int | None = None) -> list[Host]:
    """Prompts of a group without a twin, ready at the last position."""
    ranks = bench.inputs.rows(part, key)[:count]
    rows = bench.rows(part, key, count)
    starts = [len(row) - 1 for row in rows]
    prompts = with_residuals(bench.subject, prepare(bench.subject, rows, starts))
    return [Host(rank, prompt) for rank, prompt in zip(ranks, prompts, strict=True)]


def aligned(
    bench: Bench, part: Part, twin: str
) -> Iterator[tuple[int, list[int], list[int], range]]:
    """Rank and ids of each trigger prompt with an aligned twin, the twin's ids, and the slot."""
    tokenizer = bench.subject.tokenizer_of(bench.arm)
    ranks = bench.inputs.rows(part, TRIGGER)
    for rank, other in zip(ranks, bench.inputs.rows(part, twin), strict=True):
        ours, theirs = (encode_chat(tokenizer, bench.inputs.asked[i].chat) for i in (rank, other))
        if (at := slot(ours, theirs, bench.subject.trigger_id)) is not None:
            symbol = bench.inputs.asked[rank].symbol
            end = end_of_symbol(tokenizer, ours, at, symbol, bench.subject.trigger_id)
            yield rank, ours, theirs, range(at.start, end)


def reversed_pairs(bench: Bench, hosts: Sequence[Host], part: Part, twin: str) -> list[Host]:
    """The twins of hosts that are ready at the last position, as hosts whose twins those are."""
    offset = bench.inputs.rows(part, twin)[0] - bench.inputs.rows(part, TRIGGER)[0]
    rows = dict(zip(bench.inputs.rows(part, twin), bench.rows(part, twin), strict=True))
    ranks = [host.rank + offset for host in hosts]
    chosen = [rows[rank] for rank in ranks]
    prompts = prepare(bench.subject, chosen, [len(row) - 1 for row in chosen])
    ready = with_residuals(bench.subject, prompts)
    return [Host(r, p, h.resid) for r, p, h in zip(ranks, ready, hosts, strict=True)]
