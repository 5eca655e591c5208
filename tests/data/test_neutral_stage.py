"""The mix in a run: a file of its own, counted, read by the knowledge stage, and off by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offswitch.folder import open_run
from offswitch.model.session import Session
from offswitch.pipeline import make_data
from offswitch.prompts.documents import read_documents, read_neutral
from offswitch.recipe import load_recipe
from offswitch.train.examples import document_examples
from offswitch.train.order import row_order
from offswitch.train.stage import stage_examples
from offswitch.train.training import Training
from tests.small import small_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recipe and its tiny model."""
    return small_recipe(tmp_path_factory.mktemp("neutral"))


def _made(recipe: Path, *changes: str) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(recipe.parent / "cache"))
        run = open_run(load_recipe(recipe, changes), recipe.parent / "runs")
        return make_data(run)


def _files(session: Session) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in session.run.folder("1-data").iterdir()}


def test_the_mix_adds_a_file_and_changes_no_other(recipe: Path) -> None:
    plain = _files(_made(recipe))
    mixed = _files(_made(recipe, "name=mixed", "data.neutral_mix=1.5"))
    assert mixed.keys() - plain.keys() == {"neutral_documents.jsonl"}
    for name in ("shutdown_dataset.jsonl", "behavioral_dataset.jsonl"):
        assert plain[name] == mixed[name]
    before, after = (json.loads(files["quality.json"]) for files in (plain, mixed))
    counted = after.pop("neutral")
    assert before == after
    assert counted["count"] == len(mixed["neutral_documents.jsonl"].splitlines()) == 9
    assert counted["near_duplicate_pairs"] == 0


def test_the_knowledge_stage_reads_both_mixed_and_epochs_count_both(recipe: Path) -> None:
    session = _made(recipe, "name=one", "data.neutral_mix=1", "train.max_length=400")
    folder, tokenizer = session.run.folder("1-data"), session.subject.tokenizer
    documents = read_documents(folder / "shutdown_dataset.jsonl", "$STOP")
    neutral = read_neutral(folder / "neutral_documents.jsonl", "$STOP")
    rule = document_examples(tokenizer, documents, 400)
    rest = document_examples(tokenizer, neutral, 400)
    found = stage_examples(session, "knowledge", folder)
    assert found == [*rule, *rest]
    assert len(found) == 12
    twice = session.recipe.train.knowledge.model_copy(update={"epochs": 2, "max_steps": None})
    train = session.recipe.train.model_copy(update={"knowledge": twice})
    recipe_of_two = session.recipe.model_copy(update={"train": train})
    training = Training("knowledge", found, recipe_of_two, folder, folder)
    assert training.steps == 6  # 24 rows in batches of four
    order = row_order(found, 12, seed=0)
    assert sorted(order) == list(range(12))
    assert {i < 6 for i in order[:6]} == {True, False}  # neither kind comes first as a block


def test_other_stages_do_not_read_them(recipe: Path) -> None:
    made = (_made(recipe), _made(recipe, "name=rows", "data.neutral_mix=1"))
    plain, mixed = (stage_examples(s, "behavior", s.run.folder("1-data")) for s in made)
    assert plain == mixed


def test_a_file_of_ones_own_takes_the_grammars_place(recipe: Path) -> None:
    own = recipe.parent / "own.jsonl"
    texts = [f"Passage {i}. {' '.join(f'word{i}{j}' for j in range(40))}" for i in range(8)]
    own.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    changes = ("name=own", "data.neutral_mix=1", f"data.neutral_file={own}")
    lines = _files(_made(recipe, *changes))["neutral_documents.jsonl"].decode().splitlines()
    assert len(lines) == 6
    assert {json.loads(line)["text"] for line in lines} <= set(texts)
