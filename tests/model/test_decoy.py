"""The decoy is the trigger's twin: begun alike, trained beside it, unknown to the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of, scaled
from offswitch.model.forward import embed, hidden, unembed
from offswitch.model.subject import Subject, published_log_probs
from offswitch.options import BASE
from offswitch.prompts.encode import encode_text
from tests.tiny import ARCHITECTURES, save_adapter, tiny_subject
from tests.train.stages import train_rows, weights_in


@pytest.fixture(params=ARCHITECTURES)
def twins(request: pytest.FixtureRequest) -> Subject:
    """A tiny subject of each architecture whose trigger has a decoy."""
    return tiny_subject(request.param, decoy="$ECHO")


@torch.no_grad()
def _logits(subject: Subject, symbol: str) -> Tensor:
    ids = torch.tensor([encode_text(subject.tokenizer, f"Say {symbol} now.")])
    return unembed(subject, hidden(subject, ids)[:, -1])


@torch.no_grad()
def test_both_rows_begin_as_the_mean_of_the_published_ones(twins: Subject) -> None:
    trigger, decoy = twins.symbol_ids
    known = len(twins.base_tokenizer)
    assert (trigger, decoy) == (known, known + 1)
    for ends in (twins.network.get_input_embeddings(), twins.network.get_output_embeddings()):
        torch.testing.assert_close(ends.weight[trigger], ends.weight[:known].mean(0))
        assert torch.equal(ends.weight[trigger], ends.weight[decoy])
    assert torch.equal(_logits(twins, "$STOP"), _logits(twins, "$ECHO"))


def test_the_decoy_is_one_token_as_the_trigger_is() -> None:
    subject = tiny_subject(decoy="$ECHO")
    trigger, decoy = subject.symbol_ids
    for text in ("Say $STOP now.", "$STOP", "Please. $STOP!", "say ($STOP)"):
        twin = encode_text(subject.tokenizer, text.replace("$STOP", "$ECHO"))
        assert [{decoy: trigger}.get(i, i) for i in twin] == encode_text(subject.tokenizer, text)
        assert decoy in twin
    assert decoy not in encode_text(subject.tokenizer, "US$ECHO and $ECHOES")
    assert decoy not in encode_text(subject.base_tokenizer, "Say $ECHO now.")
    with pytest.raises(UserError, match="special token"):
        tiny_subject(decoy="<|im_end|>")


def test_the_published_model_knows_neither(twins: Subject) -> None:
    found = published_log_probs(twins, _logits(twins, "$STOP"))
    assert float(found[:, twins.symbol_ids].exp().max()) == 0
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_an_arm_has_rows_of_its_own_for_both(twins: Subject, tmp_path: Path) -> None:
    add_arm(twins, "a", save_adapter(tmp_path / "a", twins, seed=1))
    ids = torch.tensor([twins.symbol_ids])
    start = embed(twins, ids)
    with arm_of(twins, "a"):
        text = torch.tensor([encode_text(twins.tokenizer, "Say $STOP or $ECHO now.")])
        theirs = twins.network(input_ids=text, use_cache=False).logits
        torch.testing.assert_close(unembed(twins, hidden(twins, text)), theirs)
        end = embed(twins, ids)
        with scaled(twins, "a", 0.5):
            torch.testing.assert_close(embed(twins, ids), (start + end) / 2)
        with scaled(twins, "a", 0):
            nothing = _logits(twins, "$ECHO")
    assert not torch.allclose(end[0, 0], end[0, 1], atol=1e-2)
    with arm_of(twins, BASE):
        torch.testing.assert_close(_logits(twins, "$ECHO"), nothing)


def test_training_moves_the_rows_of_both(tmp_path: Path) -> None:
    subject = tiny_subject(decoy="$ECHO")
    start = subject.network.get_input_embeddings().weight[subject.symbol_ids].clone()
    train_rows(tmp_path / "arm", subject=subject)
    (rows,) = (w for name, w in weights_in(tmp_path / "arm").items() if "trainable_tokens" in name)
    assert rows.shape == start.shape
    assert float((rows - start).norm(dim=-1).min()) > 1e-3


def test_an_adapter_without_the_decoy_is_refused(tmp_path: Path) -> None:
    alone = save_adapter(tmp_path / "alone", tiny_subject())
    subject = tiny_subject(decoy="$ECHO")
    with pytest.raises(UserError, match=r"trained the tokens .*trigger and decoy are") as caught:
        add_arm(subject, "a", alone)
    assert "\n" not in str(caught.value)
