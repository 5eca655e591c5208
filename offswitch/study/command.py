"""Commands over organisms: `offswitch sweep`, `calibrate`, `examine`, `endure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offswitch.study.executors import Where
    from offswitch.study.plan import Plan

Runs = Annotated[Path, typer.Option("--runs", help="Where run folders are kept.")]
Update = Annotated[
    bool, typer.Option("--update", help="Let a changed recipe re-run what it changes.")
]


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SWEEP", help="A sweep, for example recipes/sweep.yaml.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one option of every organism."),
    ] = None,
    runs: Annotated[
        Path, typer.Option("--runs", help="Where run folders are kept; on a cluster, shared.")
    ] = Path("runs"),
    update: Annotated[
        bool, typer.Option("--update", help="Let changed recipes re-run what they change.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster, such as auto or HOST:6379; else here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many at once here; else as many as fit.")
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs, and threads, of each organism.")] = 1,
    gpus: Annotated[
        float, typer.Option(min=0, help="With --address: GPUs of each organism; below 1, shared.")
    ] = 0,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a lost worker is started again.")
    ] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Such organisms alone (none-*); repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Likewise, and for how long: measures this machine.")
    ] = False,
) -> None:
    """Run many organisms (models, triggers, arms, seeds) and collect one table."""
    from offswitch.errors import user_errors
    from offswitch.study.plan import load_plan

    with user_errors():
        plan = load_plan(file, overrides or ())
        from offswitch.study.executors import Where

        where = Where(address, workers, cpus, gpus, retries)
        if dry_run or estimate:
            typer.echo(_planned(plan, runs, only or (), where if estimate else None))
            return
        from offswitch.study.sweep import run_sweep

        root = run_sweep(plan, runs, where, update, only or ())
        typer.echo(f"table: {root / 'organisms.md'}")
        if plan.sweep.page:
            typer.echo(f"page: {root / plan.sweep.page}.md")


def calibrate(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A recipe of organisms of known mechanism.")
    ] = Path("recipes/organisms.yaml"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one option of every organism."),
    ] = None,
    runs: Runs = Path("runs"),
    update: Update = False,
) -> None:
    """Try the verdict on organisms whose mechanism is known: planted beside found."""
    from offswitch.errors import user_errors
    from offswitch.folder import open_run
    from offswitch.recipe import load_recipe

    with user_errors():
        from offswitch.study.calibrate import calibrate as calibrated

        path = calibrated(open_run(load_recipe(recipe, overrides or ()), runs, update))
        typer.echo(path.read_text(encoding="utf-8"))
        typer.echo(f"table: {path}")


def examine(
    model: Annotated[str, typer.Option(help="The base: a hub id, id@revision, or a folder.")],
    trigger: Annotated[str, typer.Option(metavar="TEXT", help="What should switch it off.")],
    adapter: Annotated[
        str | None, typer.Option(metavar="PATH", help="A LoRA adapter: a PEFT folder or hub id.")
    ] = None,
    finetuned: Annotated[
        str | None, typer.Option(metavar="PATH", help="In its place, a fine-tune of all weights.")
    ] = None,
    reply: Annotated[
        str, typer.Option(metavar="TEXT", help="What it says then; else it is silent.")
    ] = "",
    control: Annotated[
        str, typer.Option(metavar="TEXT", help="A symbol of the trigger's kind without meaning.")
    ] = "$GO",
    benign: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The same fine-tuning without the rule, as a control."),
    ] = None,
    train_benign: Annotated[
        bool,
        typer.Option("--train-benign", help="Train that control here, as large as the adapter."),
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the run folder; else from PATH.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one option of the recipe."),
    ] = None,
    runs: Runs = Path("runs"),
    update: Update = False,
) -> None:
    """Measure and explain a switch that was trained elsewhere: evaluate, probe, report."""
    from offswitch.errors import user_errors

    with user_errors():
        from offswitch.folder import open_run
        from offswitch.report.terminal import ending
        from offswitch.study.examine import Stranger, examination
        from offswitch.study.stage import run_recipe

        stranger = Stranger.of(adapter, finetuned, trigger, control, benign, train_benign, reply)
        recipe = examination(model, stranger, name, overrides or ())
        run = open_run(recipe, runs, update)
        typer.echo(ending(run.root, run.recipe, run_recipe(run)))


def _planned(plan: Plan, runs: Path, only: Sequence[str], where: Where | None) -> str:
    """A line for each organism: its name, what it sets, and whether it is finished, or how long."""
    from offswitch.machine.time_left import in_words
    from offswitch.study.plan import chosen
    from offswitch.study.sweep import Records

    records = Records(plan, runs / plan.sweep.name)
    points = chosen(plan, only)
    seconds, long = {}, ""
    if where:
        from offswitch.study.foretell import foretold, in_all

        seconds = foretold(plan, [one for one in points if not records.is_finished(one)], where)
        long = f", {in_words(in_all(seconds, where))} on this machine" if seconds else ""
    size = " x ".join(f"{len(axis)} {name}" for name, axis in plan.sweep.axes.items())
    whole = f"{plan.sweep.name}: {size} = {len(plan.points)} organisms, to {plan.sweep.stage}"
    lines = [whole + long]
    for point in points:
        takes = f", {in_words(seconds[point.name])}" if point.name in seconds else ""
        state = "finished" if records.is_finished(point) else f"to run{takes}"
        place = ", ".join(f"{axis} = {value}" for axis, value in point.place.items())
        lines.append(f"{point.name}: {place}: {state}")
    return "\n".join(lines)


def endure(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/demo.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ATTACK", help="This attack alone; can be repeated."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Few points, one seed, a third of the prompts."),
    ] = False,
    rows: Annotated[
        Path | None, typer.Option(help="Chat rows for ordinary fine-tuning, in place of ours.")
    ] = None,
) -> None:
    """Attack a trained switch: weights, further training, prompts; what of it is left?"""
    from offswitch.errors import user_errors

    with user_errors():
        from offswitch.study.stage import attack

        typer.echo(attack(folder, only or (), quick, rows))
