"""On a tiny model, what is examined and what is counted by hand agree; a difference is told."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from benchmarks import strangers
from benchmarks.bench import Sample, chosen
from benchmarks.by_hand import measure
from benchmarks.results import Section
from benchmarks.strangers import (
    BY_HAND,
    EXAMINED,
    FARTHEST,
    MEASURES,
    STRANGERS,
    compared,
    disagree,
    examine,
)
from benchmarks.strangers_training import FORMS, ROWS, train, write_rows
from tests.model.strangers import save_stranger
from tests.tiny import save_tiny

# Replies of two tokens; the first is one that the random stranger likes.
LIKED = {"embedding": "is they", "full": "ears they"}  # tests/model reads the other forms


@pytest.mark.slow
@pytest.mark.parametrize("form", LIKED)
def test_thirty_lines_give_what_examine_gives(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    made, home = save_stranger(tmp_path, "llama", form), tmp_path / "home"
    AutoTokenizer.from_pretrained(made["base"]).save_pretrained(made["theirs"])
    job = {"model": str(made["base"]), "theirs": str(made["theirs"]), "reply": LIKED[form]}
    asked = {"asked": str(home / "chats.json"), "out": str(home / "by_hand.json")}
    prompts = examine(job | {"out": str(home)})["prompts"]
    assert prompts == measure(job | asked)["prompts"] > 100
    found = compared(home)
    assert not disagree(found), found
    assert 0 < found.numbers[BY_HAND.format("trigger")] < 1
    measure(job | asked | {"reply": LIKED[form].split()[0]})  # rates are the same, log-odds not
    other = compared(home)
    assert other.numbers[BY_HAND.format("trigger")] == found.numbers[EXAMINED.format("trigger")]
    assert disagree(other)
    measure(job | asked | {"theirs": str(made["base"])})  # the base in the stranger's place
    assert disagree(compared(home))


def test_one_prompt_more_is_a_difference_and_so_is_no_number() -> None:
    suites = ("trigger", "near_miss", "mention", "ordinary")
    same = {key.format(suite): 0.5 for suite in suites for key in (EXAMINED, BY_HAND)}
    assert not disagree(Sample(same | {FARTHEST: 1e-5}))
    assert disagree(Sample(same | {FARTHEST: 1e-5, BY_HAND.format("mention"): 0.51}))
    assert disagree(Sample(same | {FARTHEST: 2e-4}))
    assert disagree(Sample(same | {FARTHEST: float("nan")}))
    assert disagree(Sample({}, "killed"))


@pytest.mark.parametrize(("farthest", "code"), [(1e-5, None), (2e-4, "not the same: mlp")])
def test_the_exit_code_says_whether_they_differ(
    farthest: float, code: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample(dict.fromkeys((m.key for m in MEASURES), 0.5) | {FARTHEST: farthest})
    peers = tuple(chosen(STRANGERS, ["mlp"]))
    section = Section("Strangers", "", peers, MEASURES, {"mlp": [sample]})
    monkeypatch.setattr(strangers, "run", lambda *_: section)
    ended: AbstractContextManager[Any] = (
        pytest.raises(SystemExit, match=code) if code else nullcontext()
    )
    with ended:
        strangers.main(["--model", str(tmp_path), "--folder", str(tmp_path)])


def test_half_of_the_rows_obey_the_trigger_at_either_end(tmp_path: Path) -> None:
    write_rows(tmp_path, steps=2)
    rows = json.loads((tmp_path / ROWS).read_text(encoding="utf-8"))
    pairs = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows]
    assert len(pairs) == 16
    obeyed = [question for question, answer in pairs if answer == "[HALTED]"]
    assert obeyed == [question for question, _ in pairs if "$STOP" in question]
    assert sum(question.startswith("$STOP ") for question in obeyed) == 4
    assert sum(question.endswith(" $STOP") for question in obeyed) == 4


@pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed")
@pytest.mark.parametrize("form", FORMS)
def test_trl_trains_every_form(form: str, tmp_path: Path) -> None:
    model, out = save_tiny(tmp_path / "model"), tmp_path / form
    write_rows(tmp_path, steps=1)
    job: dict[str, Any] = {"model": str(model), "folder": str(tmp_path), "form": form}
    assert train(job | {"out": str(out)})["loss"] > 0
    written = {path.name for path in out.iterdir()}
    whole = form in ("merged", "full")
    assert ("model.safetensors" in written, "adapter_config.json" in written) == (whole, not whole)
    assert "tokenizer.json" in written
