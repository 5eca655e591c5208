"""`offswitch export`: an arm of a run as a folder for the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    root: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/demo.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or an export of the same arm.")
    ],
    arm: Annotated[str | None, typer.Option(help="Which arm; else the one that is probed.")] = None,
    gguf: Annotated[
        str, typer.Option(metavar="KINDS", help="GGUF files too, by kind: Q8_0,Q4_K_M.")
    ] = "",
    base: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What the model was published as, if it was a local one."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload it there, after a question.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Upload without a question.")] = False,
) -> None:
    """Make a folder for the Hugging Face Hub: adapter, merged weights, GGUF, card, directions."""
    from offswitch.errors import user_errors

    with user_errors():
        from offswitch.export.push import push as upload
        from offswitch.export.push import require_consent
        from offswitch.export.stage import export as write

        if push is not None:
            require_consent(yes)
        kinds = tuple(kind for part in gguf.split(",") if (kind := part.strip()))
        write(root, arm, folder, kinds, base)
        typer.echo(f"export: {folder}")
        if push is not None:
            upload(folder, push, yes, typer.echo)
