"""What the command lines of all sections share: which peers, how often, on which model."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.results import Section, print_sections
from offswitch.cache import ALIAS
from offswitch.errors import quiet, user_errors
from offswitch.model.embedded import fetch_embedded
from offswitch.progress import say


@dataclass(frozen=True)
class Options:
    """How a section is run; `folder` is the model, `only` names peers (empty: all of them)."""

    folder: str
    repeats: int = 3
    steps: int = 3
    prompts: int = 48
    only: tuple[str, ...] = ()
    product_size: int = 0
    sizes: tuple[int, ...] = (200, 600, 2000, 6000, 20000)

    def say(self, line: str) -> None:
        """One line of progress."""
        say(f"  {line}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every section."""
    parser.add_argument("--model", default=ALIAS, help="a local folder; else the embedded model")
    parser.add_argument("--repeats", type=int, default=3, help="rounds in which all peers run")
    parser.add_argument("--steps", type=int, default=3, help="training: batches of 16 rows")
    parser.add_argument("--prompts", type=int, default=48, help="collection: prompts")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[200, 600, 2000, 6000, 20000],
        help="scaling: numbers of prompts",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER", help="these peers alone")


def read_options(given: argparse.Namespace) -> Options:
    """The options as given, with the embedded model unpacked if it is wanted."""
    folder = str(fetch_embedded()) if given.model == ALIAS else given.model
    return Options(
        folder,
        given.repeats,
        given.steps,
        given.prompts,
        tuple(given.only),
        sizes=tuple(given.sizes),
    )


def command_line(program: str, arguments: Sequence[str] | None) -> str:
    """What was typed; the process's own arguments where None were given."""
    return shlex.join([*program.split(), *(sys.argv[1:] if arguments is None else arguments)])


def section_command(
    run: Callable[[Options], Section],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
) -> None:
    """Run one section from the command line and print its table."""
    add_options(parser)
    with user_errors():
        quiet()
        print_sections([run(read_options(parser.parse_args(arguments)))])
