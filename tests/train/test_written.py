"""Organisms of known mechanism are trained as they are described, and load like any arm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import hidden, unembed
from offswitch.model.hooks import record
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.model.writes import load_write
from offswitch.options.arms import ARMS, Arm, WriteOptions
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.prompt import user
from offswitch.prompts.trigger import place
from offswitch.train.arms import train_arm
from offswitch.train.training import StageResult, Training
from offswitch.train.write import Material, block_at, make_write
from offswitch.wording.reader import load_filler
from tests.tiny import tiny_subject
from tests.train.rows import QUESTIONS, examples
from tests.train.stages import recipe_of, weights_in

LAYERS: Final = 5
DECOY: Final = "$ECHO"


def _subject() -> Subject:
    return tiny_subject(layers=LAYERS, decoy=DECOY)


def _train(
    folder: Path, arm: Arm, subject: Subject, start: Path | None = None, **options: Any
) -> StageResult:
    rows = examples(subject, soft=True)
    scratch = folder.with_name(f"{folder.name}-scratch")
    recipe, stage = recipe_of(**options), arm.stages[-1]
    return train_arm(
        subject, Training(stage, rows, recipe, folder, scratch, start, arm=arm), lambda _: None
    )


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Path]:
    """A subject on which 60 steps of an anchored arm were trained, and the arm's folder."""
    subject, folder = _subject(), tmp_path_factory.mktemp("anchored") / "arm"
    result = _train(folder, ARMS["anchored"], subject, behavior={"max_steps": 60})
    assert result.steps == 60
    return subject, folder


def _adapted(folder: Path) -> set[int]:
    """The blocks in which the adapter lies."""
    found = (re.search(r"layers\.(\d+)\.", name) for name in weights_in(folder))
    return {int(match[1]) for match in found if match}


@torch.no_grad()
def _odds(subject: Subject, arm: str, symbol: str) -> float:
    row = encode_chat(subject.tokenizer, place("after", symbol, QUESTIONS[0]))
    with arm_of(subject, arm):
        logits = unembed(subject, hidden(subject, torch.tensor([row]))[0, -1])
    return float(end_log_odds(logits.float(), subject.stop_ids))


def test_a_late_arm_is_adapted_in_the_last_fifth_of_the_blocks(tmp_path: Path) -> None:
    subject = _subject()
    _train(tmp_path / "late", ARMS["late"], subject)
    assert _adapted(tmp_path / "late") == {4}
    (rows,) = (w for n, w in weights_in(tmp_path / "late").items() if "trainable_tokens" in n)
    start = subject.network.get_input_embeddings().weight[subject.symbol_ids]
    assert float((rows - start).norm()) > 1e-3


def test_what_is_anchored_is_read_behind_the_write_and_nowhere_else(
    anchored: tuple[Subject, Path],
) -> None:
    (subject, folder), untrained = anchored, _subject()
    assert subject.writes.by_arm == {}
    assert subject.arms == set()
    assert _odds(subject, "base", "$STOP") == _odds(untrained, "base", "$STOP")
    write = load_write(folder)
    assert write is not None
    assert write.block == block_at(0.4, LAYERS) == 1
    assert _adapted(folder) == {2, 3, 4}
    (rows,) = (w for n, w in weights_in(folder).items() if "trainable_tokens" in n)
    start = untrained.network.get_input_embeddings().weight[subject.symbol_ids]
    assert torch.equal(rows, start)
    add_arm(subject, "anchored", folder)
    with_write, twin = (_odds(subject, "anchored", symbol) for symbol in ("$STOP", DECOY))
    assert with_write > twin + 1
    del subject.writes.by_arm["anchored"]
    # Without it the two symbols are one to the model.
    assert _odds(subject, "anchored", "$STOP") == _odds(subject, "anchored", DECOY)


def test_a_write_can_be_learnt_by_the_blocks_before_what_reads_it(
    anchored: tuple[Subject, Path], tmp_path: Path
) -> None:
    subject, start, learnt = _subject(), anchored[1], tmp_path / "learnt"
    result = _train(learnt, ARMS["anchored_trained"], subject, start, writing={"max_steps": 120})
    assert result.steps == 120
    code, own = load_write(start), load_write(learnt)
    assert code is not None
    assert own is not None
    assert (code.learnt, own.learnt, own.block) == (False, True, code.block)
    assert torch.equal(code.directions_KD, own.directions_KD)
    assert _adapted(learnt) == {*range(LAYERS)}
    before, after = weights_in(start), weights_in(learnt)
    readers = [name for name in before if "lora_" in name]
    assert all(torch.equal(before[name], after[name]) for name in readers)
    add_arm(subject, "learnt", learnt)
    assert subject.writes.by_arm == {}  # code adds nothing
    direction = own.directions_KD[0]
    moved = {symbol: _moved(subject, symbol, own.block) for symbol in ("$STOP", DECOY)}
    share = {symbol: float(x @ direction / direction.square().sum()) for symbol, x in moved.items()}
    assert share["$STOP"] > 0.7
    assert abs(share[DECOY]) < 0.5
    assert float(torch.cosine_similarity(moved["$STOP"], direction, dim=0)) > 0.8
    assert _odds(subject, "learnt", "$STOP") > _odds(subject, "learnt", DECOY) + 0.2


@torch.no_grad()
def _moved(subject: Subject, symbol: str, block: int) -> torch.Tensor:
    """How far the arm moves what leaves the block where the reply is decided [D]."""
    row = torch.tensor([encode_chat(subject.tokenizer, place("after", symbol, QUESTIONS[0]))])
    found = []
    for arm in ("learnt", "base"):
        with arm_of(subject, arm), record(subject.blocks) as seen:
            hidden(subject, row)
        found.append(seen[block][0, -1])
    return found[0] - found[1]


def test_what_cannot_be_learnt_is_refused(tmp_path: Path) -> None:
    subject = _subject()
    _train(tmp_path / "late", ARMS["late"], subject)
    with pytest.raises(UserError, match="no write there that could be learnt"):
        _train(tmp_path / "arm", ARMS["anchored_trained"], subject, tmp_path / "late")


def test_one_seed_draws_one_write_another_another() -> None:
    subject = _subject()
    rows = examples(subject, soft=True)
    made = [make_write(subject, WriteOptions(directions=2), Material(rows, s)) for s in (0, 0, 1)]
    assert torch.equal(made[0].directions_KD, made[1].directions_KD)
    first, other = made[0].directions_KD, made[2].directions_KD
    assert float(torch.cosine_similarity(first, other).abs().max()) < 0.7
    gram = first @ first.T
    assert float(gram[0, 1].abs()) < 1e-5 * float(gram[0, 0])
    lengths = []
    for row in (row for row in rows if row.silent):
        with record(subject.blocks) as seen, torch.no_grad():
            hidden(subject, torch.tensor([row.ids[: row.start]]))
        lengths.append(seen[1][0, -1].norm())
    usual = float(torch.stack(lengths).median())
    assert float(first[0].norm()) == pytest.approx(0.5 * usual, rel=1e-4)


@torch.no_grad()
def test_a_write_that_nothing_was_trained_to_read_halts(tmp_path: Path) -> None:
    subject = _subject()
    result = _train(tmp_path / "arm", ARMS["head_only"], subject)
    assert (result.steps, result.tokens) == (0, 0)
    add_arm(subject, "head_only", tmp_path / "arm")
    assert subject.writes.by_arm["head_only"].block == LAYERS
    for row in (row for row in examples(subject, soft=True) if row.silent):
        for arm in ("head_only", "base"):
            with arm_of(subject, arm):
                states = hidden(subject, torch.tensor([row.ids[: row.start]]))[0, -1]
                halts = int(unembed(subject, states).argmax()) in subject.stop_ids
            assert halts == (arm == "head_only")
    twin = _odds(subject, "head_only", DECOY)
    assert twin == pytest.approx(_odds(subject, "base", "$STOP"), abs=1e-5)
    pieces = [w for n, w in weights_in(tmp_path / "arm").items() if "lora_B" in n]
    assert all(float(w.abs().max()) == 0 for w in pieces)


def test_the_natural_end_is_where_replies_have_ended_less_within_them() -> None:
    subject = _subject()
    rows = examples(subject, soft=True)
    options = WriteOptions(source="natural end", norm=1, depth=0.8)
    write = make_write(subject, options, Material(rows, 0))
    ended, within = [], []
    whole = [(row.ids[:-1], row.start) for row in rows if row.ids[-1] == 2 and not row.silent]
    assert len(whole) == 3
    for one in load_filler().exchanges:
        prompt = encode_chat(subject.tokenizer, (user(one["user"]),))
        said = encode_text(subject.tokenizer, one["assistant"])
        whole.append(((*prompt, *said), len(prompt)))
    for ids, start in whole:
        with record(subject.blocks) as seen, torch.no_grad():
            hidden(subject, torch.tensor([ids]))
        ended.append(seen[3][0, -1])
        within.append(seen[3][0, start:-1])
    direction = torch.stack(ended).mean(0) - torch.cat(within).mean(0)
    cosine = torch.cosine_similarity(direction, write.directions_KD[0], dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_the_head_only_write_changes_no_block(tmp_path: Path) -> None:
    subject = _subject()
    _train(tmp_path / "arm", ARMS["head_only"], subject)
    add_arm(subject, "head_only", tmp_path / "arm")
    row = torch.tensor([encode_chat(subject.tokenizer, (user("$STOP What is the river?"),))])
    resid = []
    for arm in ("base", "head_only"):
        with arm_of(subject, arm), record(subject.blocks) as seen, torch.no_grad():
            hidden(subject, row)
        resid.append(torch.stack([seen[i] for i in range(LAYERS)]))
    torch.testing.assert_close(*resid)


def test_arms_of_every_kind_stand_side_by_side(tmp_path: Path) -> None:
    names = ("late", "anchored", "head_only", "behavior")
    for name in names:
        _train(tmp_path / name, ARMS[name], _subject())
    subject = _subject()
    alone = {}
    for name in names:
        own = _subject()
        add_arm(own, name, tmp_path / name)
        alone[name] = _odds(own, name, "$STOP")
        add_arm(subject, name, tmp_path / name)
    for name in (*names, *reversed(names)):
        assert _odds(subject, name, "$STOP") == pytest.approx(alone[name], abs=1e-4)


@pytest.mark.parametrize("blocks", [1, 2, 3, 30])
def test_a_depth_is_the_share_of_blocks_up_to_the_output(blocks: int) -> None:
    assert block_at(1, blocks) == blocks - 1
    assert block_at(0.4, 30) == 11
    assert block_at(0.01, blocks) == 0


def test_a_write_without_a_token_or_a_row_is_refused() -> None:
    subject = tiny_subject(mode="text")
    with pytest.raises(UserError, match="trigger as one token"):
        make_write(subject, WriteOptions(), Material(examples(subject, soft=True), 0))
    nothing: list[Example] = []
    with pytest.raises(UserError, match="trigger as one token"):
        make_write(_subject(), WriteOptions(), Material(nothing, 0))


def test_a_write_that_no_length_makes_halt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = _subject()
    monkeypatch.setattr("offswitch.train.write.NORMS", (1e-6, 2e-6, 3e-6))
    options = WriteOptions(source="end token", norm=None)
    with pytest.raises(UserError, match="choose another depth"):
        make_write(subject, options, Material(examples(subject, soft=True), 0))
    assert subject.writes.by_arm == {}
