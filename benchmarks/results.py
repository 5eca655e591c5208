"""What came of it: one table on the terminal, and RESULTS.md with the machine and the versions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.bench import OURS, Peer, Samples, Spread, measured, ratio

WIDTH: Final = 150
HEAD: Final = """# Benchmarks

Written by `{command}`. Every run of a peer is a process of its own; peers take turns, round by
round. Numbers are medians of n repeats [lowest, highest]. *Ours / it*: our figure over the peer's
within each round, turned so that more than 1 means that ours is better.
"""


@dataclass(frozen=True)
class Measure:
    """One column: its key in the samples, its title with the unit, and how many decimals."""

    key: str
    title: str
    digits: int


@dataclass(frozen=True)
class Section:
    """One comparison: its peers, their samples, and the measure by which ours is compared.

    `headline` is "" where nothing is compared; `less` says that less of it is better.
    """

    title: str
    told: str
    peers: tuple[Peer, ...]
    measures: tuple[Measure, ...]
    samples: Samples
    headline: str = ""
    less: bool = False

    def __post_init__(self) -> None:
        known = {peer.name for peer in self.peers}
        if strange := self.samples.keys() - known:
            raise ValueError(f"samples of no peer of '{self.title}': {sorted(strange)}")

    def rows(self) -> list[list[str]]:
        """A row a peer: what it is, n, its measures, and ours over it; or why it failed."""
        return [self._row(peer) for peer in self.peers if self.samples.get(peer.name)]

    def titles(self) -> list[str]:
        """What stands above the columns."""
        last = ["ours / it"] if self.headline else []
        return ["", "n", *(measure.title for measure in self.measures), *last]

    def _row(self, peer: Peer) -> list[str]:
        samples = self.samples[peer.name]
        failure = next((one.failure for one in samples if one.failure), "")
        worked = sum(not one.failure for one in samples)
        cells = [shown(measured(samples, m.key), m.digits) for m in self.measures]
        says = f"{peer.name}: {peer.says}" + (f" ({failure})" if failure else "")
        return [says, str(worked), *cells, *([self._ratio(peer.name)] if self.headline else [])]

    def _ratio(self, name: str) -> str:
        ours, theirs = self.samples.get(OURS, []), self.samples[name]
        if name == OURS:
            return "1"
        above, below = (theirs, ours) if self.less else (ours, theirs)
        return shown(ratio(above, below, self.headline), 2)


def shown(found: Spread | None, digits: int) -> str:
    """A median with its range."""
    if found is None:
        return "-"
    value, low, high = (f"{x:,.{digits}f}" for x in (found.median, found.low, found.high))
    return value if found.n == 1 else f"{value} [{low}, {high}]"


def print_sections(sections: Sequence[Section]) -> None:
    """The tables of all sections, on the terminal."""
    console = Console()
    console.width = max(console.width, WIDTH)
    for section in sections:
        table = Table(title=section.title, caption=section.told, title_justify="left")
        for number, title in enumerate(section.titles()):
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for row in section.rows():
            table.add_row(*row)
        console.print(table, markup=False)


def write_results(
    path: Path, sections: Sequence[Section], machine: Mapping[str, Any], command: str
) -> None:
    """RESULTS.md: every section as a table; the command, the machine, the versions above them."""
    parts = [HEAD.format(command=command), *_machine_lines(machine)]
    for section in sections:
        parts += [f"\n## {section.title}\n", section.told, ""]
        titles = section.titles()
        parts += [_line(titles), _line(["---"] * len(titles)), *map(_line, section.rows())]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _machine_lines(machine: Mapping[str, Any]) -> list[str]:
    facts = machine["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return [
        f"- {time.strftime('%Y-%m-%d')}; {facts['processor']}; {facts['cores']} cores,"
        f" {facts['threads']} threads; {facts['memory_gb']} GB; {facts['system']}",
        f"- {versions}",
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
