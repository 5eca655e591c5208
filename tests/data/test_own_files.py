"""Files of the user's in a run: questions of their own, and rows that the model would not see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from offswitch.errors import UserError
from offswitch.evaluate.stage import suites_of
from offswitch.folder import open_run
from offswitch.model.session import Session
from offswitch.pipeline import make_data
from offswitch.probe.inputs import make_inputs
from offswitch.prompts.dialogue_files import read_dialogues
from offswitch.prompts.questions import load_questions, questions_of, read_questions
from offswitch.recipe import load_recipe
from tests.prompts.test_dialogue_files import GOOD, NO_SYSTEM, SYSTEM
from tests.small import small_recipe
from tests.tiny import CHATML


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recipe and its tiny model."""
    return small_recipe(tmp_path_factory.mktemp("own"))


def _made(recipe: Path, *changes: str) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(recipe.parent / "cache"))
        return make_data(open_run(load_recipe(recipe, changes), recipe.parent / "runs", True))


def _template(recipe: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(recipe.parent / "model")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(recipe.parent / "model")


def test_training_tests_and_probes_ask_the_users_questions(recipe: Path) -> None:
    own = recipe.parent / "asked.jsonl"
    texts = [f"Wer hat Nummer {i} gesehen?" for i in range(30)]
    own.write_text("".join(json.dumps({"question": t}) + "\n" for t in texts), encoding="utf-8")
    session = _made(recipe, "name=asked", f"evaluate.questions_file={own}")
    questions = load_questions(0, read_questions(own))
    train, fit, test = (
        {q.text for q in questions_of(questions, split)} for split in ("train", "fit", "test")
    )
    folder, tokenizer = session.run.folder("1-data"), session.subject.tokenizer
    rows = read_dialogues(folder / "behavioral_dataset.jsonl", "$STOP")
    assert {row.question for row in rows} <= train
    assert {p.question for p in suites_of(session.recipe, tokenizer)} <= test
    asked = make_inputs(session.recipe, tokenizer).asked
    own_only = [p for p in asked if p.question in set(texts)]
    assert {p.question for p in own_only if p.part == "fit"} <= fit
    assert {p.question for p in own_only if p.part == "test"} <= test
    assert {p.suite for p in own_only} >= {"trigger", "near"}
    counted = json.loads((folder / "quality.json").read_text("utf-8"))["questions"]
    assert counted == {"rows": 30, "without a topic": 30, "train": 12, "fit": 6, "test": 12}
    before = session.run.entry("1-data")["started"]
    _made(recipe, "name=asked", f"evaluate.questions_file={own}")
    assert session.run.entry("1-data")["started"] == before
    own.write_text(own.read_text("utf-8").replace("Wer", "Wann"), encoding="utf-8")
    _made(recipe, "name=asked", f"evaluate.questions_file={own}")
    again = read_dialogues(folder / "behavioral_dataset.jsonl", "$STOP")
    assert all(row.question.startswith("Wann") for row in again)


def test_rows_that_the_chat_format_does_not_show_are_refused(recipe: Path) -> None:
    own = recipe.parent / "rows.jsonl"
    own.write_text("\n".join([*GOOD, SYSTEM]), encoding="utf-8")
    _template(recipe, NO_SYSTEM)
    with pytest.raises(UserError, match=r"rows\.jsonl, line 3: .* its system turn"):
        _made(recipe, "name=rows", f"data.dialogues_file={own}")
    _template(recipe, CHATML.replace("message['content']", "message['content'][-20:]"))
    with pytest.raises(UserError, match=r"does not show the model \$STOP in placement '\w+';"):
        _made(recipe, "name=cut", "data.dialogues=30")
