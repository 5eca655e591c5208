"""Chat in the terminal: the base model and a trained arm answer side by side."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from offswitch.errors import UserError
from offswitch.folder import TRAIN, Run, find_run, whole_run
from offswitch.model.adapters import add_arm
from offswitch.model.generate import greedy_replies
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.prompts.prompt import Reply, user

SILENCE = "∅ silence"
# What a terminal would obey; rich shows the rest of a Text as it stands.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chat_loop(folder: Path, arm: str | None, tokens: int) -> None:
    """Read requests until the input ends, each a conversation of its own, and show both replies.

    Without a name, the arm is the one that the run is about.

    Raises:
        UserError: the folder is no run, the arm was not trained in it, or was changed since.
    """
    run = find_run(folder)
    arm = arm or run.recipe.probe.arm
    adapter = adapter_of(run, arm)
    whole_run(folder, f"{TRAIN}/{arm}")
    subject = load_subject(run.recipe)
    add_arm(subject, arm, adapter)
    console = Console()
    about = f"{run.recipe.model} and its arm '{arm}'; the trigger is {run.recipe.trigger.text}"
    console.print(as_text(about))
    for request in requests():
        replies = {name: reply_to(subject, name, request, tokens) for name in (BASE, arm)}
        console.print(side_by_side(replies, console.width))


def adapter_of(run: Run, arm: str) -> Path:
    """The folder of an arm's adapter in a run.

    Raises:
        UserError: the arm was not trained there.
    """
    adapter = run.folder(f"{TRAIN}/{arm}")
    if not adapter.is_dir():
        trained = sorted(path.name for path in run.folder(TRAIN).glob("*"))
        raise UserError(
            f"{run.root} has no arm '{arm}'; trained there: {', '.join(trained) or 'none'}"
        )
    return adapter


def requests() -> Iterator[str]:
    """The lines of the standard input that are not blank; a person is asked for each."""
    while True:
        if sys.stdin.isatty():
            sys.stdout.write("you> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def reply_to(subject: Subject, arm: str, request: str, tokens: int) -> Reply:
    """The arm's greedy reply to a request that stands alone."""
    return greedy_replies(subject, arm, [(user(request),)], tokens)[0]


def side_by_side(replies: Mapping[str, Reply], width: int) -> Columns:
    """Replies in panels under their titles, as wide as a terminal of `width` has room for two."""
    panels, size = [], max(30, width // 2 - 1)
    for title, reply in replies.items():
        text = reply.text + ("" if reply.complete else " …")
        shown = as_text(text if reply.ids else SILENCE)
        panels.append(Panel(shown, title=as_text(title), width=size))
    return Columns(panels)


def as_text(text: str) -> Text:
    """Text for the terminal, shown as it is: no markup, no emoji codes, no control sequences."""
    return Text(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text))
