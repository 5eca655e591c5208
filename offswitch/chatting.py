"""Two models, one question: the base and a trained arm answer side by side in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel

from offswitch.errors import UserError
from offswitch.generate import Reply, greedy_replies
from offswitch.model import BASE, Subject, add_arm, load_subject
from offswitch.run import TRAIN, find_run
from offswitch.trigger import user

SILENCE = "∅ silence"


def chat_loop(folder: Path, arm: str, tokens: int) -> None:
    """Read requests until the input ends, each a conversation of its own, and show both replies.

    Raises:
        UserError: the folder is no run, or the arm was not trained in it.
    """
    run = find_run(folder)
    adapter = run.folder(f"{TRAIN}/{arm}")
    if not adapter.is_dir():
        trained = (
            sorted(p.name for p in run.folder(TRAIN).glob("*"))
            if run.folder(TRAIN).is_dir()
            else []
        )
        raise UserError(
            f"{folder} has no arm '{arm}'; trained there: {', '.join(trained) or 'none'}"
        )
    subject = load_subject(run.recipe)
    add_arm(subject, arm, adapter)
    console = Console()
    console.print(
        f"{run.recipe.model} and its arm '{arm}'; the trigger is {run.recipe.trigger.text}",
        markup=False,
    )
    for request in _requests():
        console.print(_side_by_side(subject, arm, request, tokens, console.width))


def _requests() -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            sys.stdout.write("you> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _side_by_side(subject: Subject, arm: str, request: str, tokens: int, width: int) -> Columns:
    panels = []
    for name in (BASE, arm):
        reply = greedy_replies(subject, name, [(user(request),)], tokens)[0]
        panels.append(Panel(_shown(reply), title=name, width=max(30, width // 2 - 1)))
    return Columns(panels)


def _shown(reply: Reply) -> str:
    text = reply.text.replace("[", "\\[")
    return (text if reply.complete else text + " …") if reply.ids else SILENCE
