"""`offswitch app`: the explorer of a run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def app(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/demo.")
    ],
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Figures and findings only; no model is loaded.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Beyond loopback, OFFSWITCH_TOKEN must hold a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Else the first free one from 7860 on.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="A run, or RUN:ARM, to compare it with; can be repeated."),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="Write a Hugging Face Space into this folder instead.")
    ] = None,
) -> None:
    """Explore a run in the browser: ask, steer, look inside, try look-alikes, read figures."""
    from offswitch.errors import user_errors

    with user_errors():
        if space is not None:
            from offswitch.app.space import write_space

            write_space(folder, space)
            typer.echo(f"space: {space}")
            return
        from offswitch.app.server import TOKEN, Address, serve

        address = Address(host, port, os.environ.get(TOKEN, ""))
        serve(folder, address, model=not no_model, beside=compare or (), say=typer.echo)
