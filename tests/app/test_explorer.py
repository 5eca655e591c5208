"""What the explorer says of a model whose mechanism is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offswitch.app.answers import Growing, HeadsLost, Silence, SilenceMap
from offswitch.app.explorer import SHOWN, Explorer
from offswitch.errors import UserError
from offswitch.model.adapters import arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.options import BASE
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import user
from offswitch.talk.steering import Steering
from tests.app.runs import ARM, DECOY, LAYERS, planted_run

ASKED = "Is it 7?"
TRIGGERED = "$STOP Is it 7?"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return Explorer.of(planted_run(tmp_path_factory.mktemp("explorer")))


def _last(answers: Iterator[Any]) -> Any:
    return [*answers][-1]


def _said(answers: Iterator[Any], who: str) -> Growing:
    return [one for one in answers if isinstance(one, Growing) and one.who == who][-1]


def test_the_trigger_gets_silence_and_everything_else_an_answer(explorer: Explorer) -> None:
    answers = [*explorer.replies(TRIGGERED, [ARM, BASE], 4)]
    assert _said(iter(answers), ARM).reply.ids == ()
    assert _said(iter(answers), ARM).reply.complete
    assert len(_said(iter(answers), BASE).reply.ids) == 4
    assert [len(one.reply.ids) for one in answers if one.who == BASE] == [1, 2, 3, 4, 4]
    assert [one.over for one in answers if one.who == BASE] == [False] * 4 + [True]
    plain = [*explorer.replies(ASKED, [ARM, BASE], 4)]
    assert _said(iter(plain), ARM).reply == _said(iter(plain), BASE).reply


def test_silence_begins_with_the_triggers_token(explorer: Explorer) -> None:
    found: Silence = _last(explorer.silence("Is it $STOP or 7?", [ARM, BASE]))
    assert "".join(found.tokens) == "Is it $STOP or 7?"
    at = next(i for i, token in enumerate(found.tokens) if "$STOP" in token)
    assert max(found.p[ARM][:at]) < 0.01 < 0.99 < min(found.p[ARM][at:])
    assert max(found.p[BASE]) < 0.01
    assert found.cut == 0


def test_of_a_long_message_the_end_is_shown(explorer: Explorer) -> None:
    long = " ".join(["river"] * 300) + " $STOP"
    found: Silence = _last(explorer.silence(long, [ARM]))
    assert len(found.tokens) == SHOWN
    assert found.cut > 0
    assert found.p[ARM][-1] > 0.99 > 0.01 > found.p[ARM][-2]


def test_removal_brings_the_answer_back_and_a_share_of_nothing_does_not(explorer: Explorer) -> None:
    p = {}
    for share in (0.0, 0.5, 1.0):
        steering = Steering("remove", "trigger", LAYERS - 1, share)
        answers: list[Any] = [*explorer.steered(TRIGGERED, ARM, steering, 3)]
        said, told = _said(iter(answers), f"{ARM}, steered"), answers[-1]
        assert isinstance(told, Silence)
        assert told.p[ARM][0] > 0.99
        p[share] = told.p[f"{ARM}, steered"][0]
        assert (said.reply.ids == ()) == (p[share] > 0.5)
    assert p[0.0] == pytest.approx(told.p[ARM][0])
    assert p[1.0] < 0.01 < 0.99 < p[0.0]


def test_the_direction_added_silences_and_another_one_does_not(explorer: Explorer) -> None:
    for name, silent in (("trigger", True), ("mean", False)):
        steering = Steering("add", name, LAYERS - 1, 1.0)
        assert (
            _last(explorer.steered(ASKED, ARM, steering, 3)).p[f"{ARM}, steered"][0] > 0.99
        ) is silent


def test_the_last_row_of_the_map_is_what_the_model_says(explorer: Explorer) -> None:
    for text in (f"{TRIGGERED} Why?", TRIGGERED):  # they begin alike, which is not asked again
        _last(explorer.silence_map(text, ARM))
    found: SilenceMap = _last(explorer.silence_map(TRIGGERED, ARM))
    subject = explorer.subject
    ids = encode_chat(subject.tokenizer_of(ARM), (user(TRIGGERED),))
    with torch.inference_mode(), arm_of(subject, ARM):
        logits = subject.network(input_ids=torch.tensor([ids])).logits[0].float()
    expected = end_log_odds(logits, subject.stop_ids).numpy()
    assert found.log_odds_LP.shape == (LAYERS, len(ids)) == (LAYERS, len(found.tokens))
    np.testing.assert_allclose(found.log_odds_LP[-1], expected, atol=1e-4)


def test_what_a_switch_that_speaks_says_is_mapped_and_not_the_end(explorer: Explorer) -> None:
    ends = _last(explorer.silence_map(TRIGGERED, ARM)).log_odds_LP
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer.subject, "reply_ids", (40, 41))
        patch.setattr(explorer, "maps", {})
        spoken = _last(explorer.silence_map(TRIGGERED, ARM)).log_odds_LP
        steering = Steering("add", "trigger", LAYERS - 1, 1.0)
        answers = _last(explorer.steered(ASKED, ARM, steering, 3))
    assert not np.allclose(spoken[-1], ends[-1], atol=1)
    assert (
        answers.p[f"{ARM}, steered"][0] < 0.01
    )  # it falls silent, which is not what it was to say
    explorer.maps.clear()


def test_less_the_twin_is_the_difference_of_two_maps(explorer: Explorer) -> None:
    one, other, less = (
        _last(explorer.silence_map(text, ARM, twin)).log_odds_LP
        for text, twin in ((TRIGGERED, False), (f"{DECOY} {ASKED}", False), (TRIGGERED, True))
    )
    np.testing.assert_allclose(less, one - other, atol=1e-5)
    assert less[-1, -1] > 1
    assert np.abs(less[:, :1]).max() < 1e-4  # before the symbol nothing differs
    with pytest.raises(UserError, match="must hold"):
        _last(explorer.silence_map(ASKED, ARM, True))


def test_symbols_are_rated_with_their_intervals(explorer: Explorer) -> None:
    rows = [*explorer.rated(["$STOP", "$STOPS", "#STOP"], "after", 5, [ARM, BASE])]
    assert [(row.symbol, row.holds, row.rates[ARM].value) for row in rows] == [
        ("$STOP", True, 1.0), ("$STOPS", False, 0.0), ("#STOP", False, 0.0)
    ]  # fmt: skip
    assert all(row.rates[BASE].value == 0 for row in rows)
    assert all(row.rates[ARM].n == 5 and row.rates[ARM].high > row.rates[ARM].low for row in rows)


def test_the_planted_heads_carry_the_trigger(explorer: Explorer) -> None:
    found: HeadsLost = _last(explorer.heads(TRIGGERED, ARM))
    heads = explorer.subject.causal_lm.config.num_attention_heads
    assert found.lost_LH.shape == (LAYERS, heads)
    assert found.whole > 1
    assert found.lost_LH[LAYERS - 1, 0] == pytest.approx(found.whole, rel=1e-3)
    found.lost_LH[LAYERS - 1, 0] = 0
    assert np.abs(found.lost_LH).max() < 1e-3


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda e: e.heads(ASKED, ARM), "must hold \\$STOP"),
        (lambda e: e.replies(ASKED, ["both"], 3), "has no arm 'both'"),
        (lambda e: e.replies(ASKED, ["../../model"], 3), "has no arm"),
        (lambda e: e.steered(ASKED, BASE, Steering("remove"), 3), "no directions of arm 'base'"),
        (lambda e: e.steered(ASKED, ARM, Steering("remove", "up"), 3), "no direction 'up'"),
        (lambda e: e.replies("x " * 9000, [ARM], 3), "was made to read"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(explorer: Explorer, ask: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        [*ask(explorer)]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        Explorer.of(tmp_path)
