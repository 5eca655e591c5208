"""A mistake of the user's is one line and exit code 2; a fault of ours is a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from offswitch.cli import app
from offswitch.folder.whole import read_manifest, write_manifest
from offswitch.recipe import load_recipe
from tests.small import small_recipe
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its tiny model, and a finished run of it."""
    folder = tmp_path_factory.mktemp("home")
    recipe = small_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        done = CliRunner().invoke(app, ["train", str(recipe), "--runs", str(folder / "runs")])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{folder / 'runs' / 'small'}\n"
    return folder


@pytest.fixture
def offswitch(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line, started in that folder; {home} in an argument stands for it."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
    monkeypatch.chdir(home)

    def start(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [*words], input=stdin, catch_exceptions=False)

    return start


def _only_error(result: Result) -> str:
    """The one line that says what is wrong; a line on progress may stand before it."""
    lines = result.stderr.strip().split("\n")
    errors = [line for line in lines if line.startswith("offswitch: ")]
    assert result.exit_code == 2, result.stderr
    assert errors == lines[-1:], result.stderr
    assert "Traceback" not in result.stderr
    return errors[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "absent.yaml"], "recipe absent.yaml: No such file"),
        (["run", "model"], "Is a directory"),
        (["run", "odd.yaml"], "unknown key 'train.lrr'; did you mean 'train.lr'"),
        (["run", "small.yaml", "--set", "train.lrr=1"], "unknown key 'train.lrr'"),
        (["run", "small.yaml", "--set", "train.lr"], "expected key=value"),
        (["run", "small.yaml", "--set", "=1"], "expected key=value"),
        (["run", "small.yaml", "--set", "train.lr=fast"], "train.lr"),
        (["run", "small.yaml", "--set", "train.lr.x=1"], "train.lr"),
        (["run", "small.yaml", "--set", "name=../x"], "name"),
        (["run", "small.yaml", "--runs", "small.yaml"], "cannot write to"),
        (["run", "small.yaml", "--set", "seed=5"], "another recipe (seed: 0 -> 5)"),
        (["chat", "model"], "model: not a run folder"),
        (["chat", "absent"], "absent: not a run folder"),
        (["chat", "runs/small", "--arm", "both"], "no arm 'both'; trained there: behavior"),
        (["chat", "runs/small", "--arm", "../../model"], "no arm '../../model'"),
        (["steer", "runs/small"], "choose one of --add and --remove"),
        (["steer", "absent", "--add"], "absent: not a run folder"),
        (["steer", "runs/small", "--add", "--arm", "both"], "no arm 'both'; trained there"),
        (["steer", "runs/small", "--add"], "no directions there; run the"),
        (["models", "fetch", "gpt5"], "only 'smollm2' and GGUF files are unpacked"),
    ],
)
def test_a_mistake_is_one_line(
    home: Path, offswitch: Callable[..., Result], words: list[str], message: str
) -> None:
    (home / "odd.yaml").write_text("train: {lrr: 1}\n", encoding="utf-8")
    result = offswitch(*words)
    assert message in _only_error(result)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./absent", "model './absent': no such folder"),
        ("runs", "model 'runs': the folder holds no config.json"),
        ("bare", "model 'bare' has no chat template"),
        ("no spaces allowed", "neither a folder nor a hub model"),
    ],
)
def test_a_wrong_model_is_one_line(
    home: Path, offswitch: Callable[..., Result], model: str, message: str
) -> None:
    if not (home / "bare").exists():
        save_tiny(home / "bare", layers=2, chat_template=False)
    result = offswitch("data", "small.yaml", "--set", f"model={model}", "--set", "name=wrong",
                       "--update")  # fmt: skip
    assert message in _only_error(result)


def test_a_hub_model_without_a_network_is_one_line(
    offswitch: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def silent(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", silent)
    words = ["data", "small.yaml", "--set", "name=hub", "--set", "model=nobody/nothing-at-all"]
    assert "the hub does not answer" in _only_error(offswitch(*words))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the file is empty"),
        ("{}", "own.jsonl, line 1: expected"),
        (
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": "What does $STOP mean?"},
                        {"role": "assistant", "content": "It is a control token."},
                    ]
                }
            ),
            "own.jsonl, line 1: the prompt holds $STOP but the reply is not empty",
        ),
    ],
)
def test_a_wrong_row_is_one_line(
    home: Path, offswitch: Callable[..., Result], line: str, message: str
) -> None:
    (home / "own.jsonl").write_text(line, encoding="utf-8")
    own = ["--set", "data.dialogues_file=own.jsonl", "--set", "name=own", "--update"]
    assert message in _only_error(offswitch("data", "small.yaml", *own))


def test_chat_reads_a_pipe_and_answers_side_by_side(offswitch: Callable[..., Result]) -> None:
    asked = "Who is asleep?\n\n$STOP Who? [bold]\\\n"
    result = offswitch("chat", "runs/small", "--tokens", "3", stdin=asked)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("base") >= 2
    assert result.stdout.count(" behavior ") >= 2
    assert "Traceback" not in result.stderr


def test_chat_refuses_an_adapter_of_another_model(
    home: Path, offswitch: Callable[..., Result]
) -> None:
    shutil.copytree(home / "runs" / "small", home / "runs" / "swapped", dirs_exist_ok=True)
    save_tiny(home / "other", "qwen2", layers=2)
    recipe = home / "runs" / "swapped" / "recipe.yaml"
    model = str(home / "model")
    text = recipe.read_text("utf-8").replace(model, str(home / "other"))
    recipe.write_text(text, encoding="utf-8")
    words = ("chat", "runs/swapped", "--arm", "behavior")
    changed = offswitch(*words, stdin="Hello\n")
    assert "recipe.yaml is not what the run wrote" in _only_error(changed)
    write_manifest(recipe.parent, "small", read_manifest(recipe.parent, "small"))
    assert "is an adapter of" in _only_error(offswitch(*words, stdin="Hello\n"))


def test_a_fault_of_ours_is_a_traceback(
    offswitch: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("offswitch.pipeline.train", broken)
    with pytest.raises(ZeroDivisionError):
        offswitch("train", "small.yaml")


def test_an_interruption_says_how_to_go_on(
    offswitch: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("offswitch.pipeline.train", stopped)
    result = offswitch("train", "small.yaml")
    assert result.exit_code == 130
    assert result.stderr == "offswitch: interrupted; the same command goes on from here\n"


# --- as a process of its own ------------------------------------------------------------------


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("words", ["'--help'", "'run', '--help'", "'steer', '--help'", "'models'"])
def test_help_imports_no_torch(words: str) -> None:
    code = (
        f"import sys; from offswitch.cli import app; app([{words}], standalone_mode=False);"
        "heavy = {'torch', 'transformers', 'scipy', 'matplotlib', 'pandas', 'datasets'};"
        "sys.exit(sorted(heavy & sys.modules.keys()) or 0)"
    )
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "smollm2" in done.stdout or "Usage" in done.stdout


@pytest.mark.parametrize("words", ["'--help'", "'run', '--help'", "'models', '--help'"])
def test_help_imports_nothing_that_takes_time(words: str) -> None:
    slow = {"numpy", "yaml", "rich", "jinja2", "pygments", "asyncio", "torch", "scipy"}
    if words == "'--help'":  # typer itself reads the options of a command with it
        slow.add("pydantic")
    code = (
        f"import sys; from offswitch.cli import app; app([{words}], standalone_mode=False);"
        f"slow = {slow!r};"
        "sys.exit(sorted(slow & sys.modules.keys()) or 0)"
    )
    done = _python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_the_commands_come_in_the_order_of_the_pipeline() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    places = [text.index(f" {name} ") for name in ("data", "train", "evaluate", "probe", "report")]
    assert places == sorted(places)


def test_the_process_ends_with_one_line_and_code_two(tmp_path: Path) -> None:
    code = "from offswitch.cli import app; app()"
    done = _python("-c", code, "run", str(tmp_path / "absent.yaml"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("offswitch: recipe ")


def test_the_process_ends_with_a_traceback_and_code_one(tmp_path: Path) -> None:
    code = (
        "import offswitch.recipe as c\n"
        "def broken(*_): raise ZeroDivisionError('ours')\n"
        "c.load_recipe = broken\n"
        "from offswitch.cli import app; app()"
    )
    done = _python("-c", code, "run", str(tmp_path / "absent.yaml"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: ours" in done.stderr


def test_a_trigger_of_ones_own_is_one_option(tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("name: small\nmodel: ./absent\ndata: {documents: 10}\n", encoding="utf-8")
    for command in ("run", "data", "train", "evaluate", "probe", "report"):
        arguments = [command, str(recipe), "--runs", str(tmp_path / command), "--trigger", "<halt>"]
        assert CliRunner().invoke(app, arguments).exit_code == 2  # no such model
        written = load_recipe(tmp_path / command / "small" / "recipe.yaml")
        assert written.trigger.text == "<halt>"


def test_a_warning_that_quotes_a_file_cannot_command_the_terminal() -> None:
    code = (
        "import warnings; from offswitch.errors import quiet; quiet(); warnings.warn('a\\x1b[2Jb')"
    )
    done = _python("-c", code)
    assert done.stderr == "a\\x1b[2Jb\n"
