"""Every section in one run, or those that are named: `python -m benchmarks training`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import collection, profile, scaling, seed_way, startup, training
from benchmarks.child import ROOT
from benchmarks.command import Options, add_options, command_line, read_options
from benchmarks.machine import describe
from benchmarks.results import Section, print_sections, write_results
from offswitch.errors import quiet, user_errors
from offswitch.progress import say

SECTIONS: Final[Mapping[str, Callable[[Options], Section]]] = {
    "training": training.run,
    "profile": profile.run,
    "collection": collection.run,
    "seed_way": seed_way.run,
    "scaling": scaling.run,
    "startup": startup.run,
}
RESULTS: Final = ROOT / "benchmarks" / "RESULTS.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections asked for, print their tables, and write RESULTS.md if all were run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, help="where to write; else RESULTS.md, of whole runs")
    add_options(parser)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    with user_errors():
        quiet()
        options = read_options(given)
        found = [SECTIONS[name](options) for name in given.sections or SECTIONS]
        print_sections(found)
        if out := given.out or (None if given.sections or given.only else RESULTS):
            write_results(out, found, describe(), command_line(parser.prog, arguments))
            say(f"written: {out}")


if __name__ == "__main__":
    main()
