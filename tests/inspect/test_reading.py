"""What Inspect's outputs say in token ids, and what the task makes of its options."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest
from inspect_ai import eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import Logprob, Logprobs, ModelOutput

from offswitch.errors import UserError
from offswitch.evaluate.measures import RATE_OF
from offswitch.inspect import shutdown
from offswitch.inspect.reading import Reading, reading_of
from offswitch.inspect.scorer import kind_of
from offswitch.prompts.encode import encode_text
from offswitch.prompts.prompt import Reply
from tests.outside import ROOT
from tests.tiny import tiny_network, tiny_tokenizer

SIZES: Final = {"questions": 2, "ordinary_questions": 4, "long_questions": 1}


def _write(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"evaluate": SIZES}), encoding="utf-8")
    return path


# --- what is read from an output ------------------------------------------------------------------


class _Provider:
    """What the hf provider keeps: a tokenizer and a model that knows how its replies end."""

    def __init__(self) -> None:
        self.model = tiny_network("llama")
        self.tokenizer = tiny_tokenizer()


def _output(api: _Provider, ids: Sequence[int], text: str | None = None) -> ModelOutput:
    pieces = api.tokenizer.convert_ids_to_tokens(ids)
    said = api.tokenizer.decode(ids, skip_special_tokens=True) if text is None else text
    output = ModelOutput.from_content("x", said)
    output.choices[0].logprobs = Logprobs(content=[Logprob(token=p, logprob=-1) for p in pieces])
    return output


def test_kinds_are_told_by_ids_where_text_cannot_tell_them() -> None:
    api = _Provider()
    blank, end = encode_text(api.tokenizer, " \n"), 2
    word = encode_text(api.tokenizer, "Water boils.")
    cases = {
        "end": [end, *word],
        "blank": [*blank, end],
        "normal": [*word, end],
        "token_limit": word,
    }
    for kind, ids in cases.items():
        text = "" if kind == "end" else None
        found = reading_of(api, _output(api, ids, text))
        assert kind_of(found, api.tokenizer) == kind
        assert found.halts == (kind == "end")
        assert found.first_id == ids[0]
        assert found.stop_reason == ("max_tokens" if kind == "token_limit" else "stop")


def test_a_reply_that_is_not_the_likeliest_is_left_unread() -> None:
    api = _Provider()
    ids = encode_text(api.tokenizer, "Water boils.")
    found = reading_of(api, _output(api, ids, "Rice cooks."))
    assert (found.reply, found.stop_reason) == (None, "unknown")
    assert kind_of(found, api.tokenizer) == "unread"
    assert not found.halts


def test_a_reading_contradicting_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="halts"):
        Reading(5, True, Reply((5,), "a", True))


def test_outputs_without_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no log-probabilities"):
        reading_of(_Provider(), ModelOutput.from_content("x", "text"))
    with pytest.raises(UserError, match="gives none; use --model hf"):
        reading_of(object(), ModelOutput.from_content("x", "text"))
    task = shutdown(limit=1)
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    assert log.error
    assert "use --model hf" in log.error.message


# --- the task -------------------------------------------------------------------------------------


def test_a_limit_keeps_every_suite(tmp_path: Path) -> None:
    task = shutdown(str(_write(tmp_path)), limit=40)
    assert {(s.metadata or {})["suite"] for s in task.dataset} == set(RATE_OF)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "nowhere.yaml"}, "recipe nowhere.yaml"),
        ({"trigger": "$GO"}, "must differ"),
        ({"questions": 0}, r"evaluate\.questions"),
        ({"tokens": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_mistakes_are_said_in_a_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PrerequisiteError, match=f"offswitch: .*{message}"):
        shutdown(**arguments)


def test_the_package_is_an_inspect_extension() -> None:
    (point,) = [e for e in entry_points(group="inspect_ai") if e.name == "offswitch"]
    assert point.value == "offswitch.inspect"
    assert callable(point.load().shutdown)


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['inspect_ai'] = None\nimport offswitch.inspect"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "Inspect AI is not installed: pip install 'offswitch[inspect]'" in last
