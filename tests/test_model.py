"""What the package reads from a model is what the model computes, for every supported family."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from offswitch import model
from offswitch.chat import encode_text, pad
from offswitch.config import Recipe
from offswitch.errors import UserError
from offswitch.hooks import record
from offswitch.model import (
    Subject,
    attention_modules,
    fingerprint,
    hidden,
    load_subject,
    project,
    readout,
    unembed,
    verify,
)
from tests.tiny import SPARE_ROWS, save_tiny, tiny_network, tiny_subject, tiny_tokenizer

SHARED = [5, 40, 300, 7, 90, 33, 12, 8, 9, 10, 250, 77]  # longer than Gemma's sliding window of 8
ROWS = [[*SHARED, 100, 101], [*SHARED, 60, 61, 62, 63, 64], [*SHARED, 20]]
PADDED = torch.tensor(pad(ROWS))


def _recipe(folder: Path, **options: Any) -> Recipe:
    return Recipe(model=str(folder), **options)


# --- forward passes -------------------------------------------------------------------------------


@torch.no_grad()
def test_readout_of_the_last_block_equals_the_logits(subject: Subject) -> None:
    with record(subject.blocks) as resid:
        logits = subject.causal_lm(input_ids=PADDED, use_cache=False).logits
    ours = readout(subject, resid[len(subject.blocks) - 1])
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(unembed(subject, hidden(subject, PADDED)), logits)


def test_projecting_is_linear_and_knows_no_norm(subject: Subject) -> None:
    resid = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    weight = subject.network.get_output_embeddings().weight
    torch.testing.assert_close(project(subject, resid), resid @ weight.T)
    torch.testing.assert_close(project(subject, 2 * resid), 2 * project(subject, resid))


def _last_real(states: Tensor, prefix: int) -> Tensor:
    return torch.stack([states[i, len(row) - 1 - prefix] for i, row in enumerate(ROWS)])


@torch.no_grad()
def test_right_padding_changes_nothing_at_real_positions(subject: Subject) -> None:
    batched = _last_real(hidden(subject, PADDED), 0)
    alone = torch.stack([hidden(subject, torch.tensor([row]))[0, -1] for row in ROWS])
    torch.testing.assert_close(batched, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", [1, 6, 12])
def test_a_shared_prefix_gives_equal_states_and_equal_gradients(
    subject: Subject, prefix: int
) -> None:
    results = []
    network = _with_lora(subject)
    for shared in (0, prefix):
        network.zero_grad()
        states = hidden(subject, PADDED, shared)
        assert states.shape[1] == PADDED.shape[1] - shared
        last = _last_real(states, shared)
        torch.autograd.backward(last.pow(2).mul(torch.arange(1.0, 33.0)).sum())
        gradients = [p.grad.flatten().clone() for p in network.parameters() if p.grad is not None]
        results.append((last.detach(), torch.cat(gradients)))
    (plain, plain_grad), (prefixed, prefixed_grad) = results
    assert (prefixed - plain).norm() <= 1e-5 * plain.norm()
    assert plain_grad.norm() > 0
    assert (prefixed_grad - plain_grad).norm() <= 1e-5 * plain_grad.norm()


def _with_lora(subject: Subject) -> Any:
    config = LoraConfig(
        r=4,
        target_modules=attention_modules(subject),
        trainable_token_indices=[subject.trigger_id or 0],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(0)
    subject.network = get_peft_model(subject.network, config)
    subject.arms.add("default")
    return subject.network


def test_the_triggers_row_really_trains(subject: Subject) -> None:
    network = _with_lora(subject)
    trigger = subject.trigger_id
    assert trigger is not None
    ids = torch.tensor([[5, 40, trigger, 300]])
    logits = unembed(subject, hidden(subject, ids)[:, -1])
    torch.autograd.backward(nn.functional.cross_entropy(logits, torch.tensor([2])))
    rows = {n: p.grad for n, p in network.named_parameters() if "trainable_tokens_delta" in n}
    assert len(rows) == 1
    (gradient,) = rows.values()
    assert gradient is not None
    assert gradient.shape == (1, 32)
    assert float(gradient.norm()) > 0


# --- the parts of a model -------------------------------------------------------------------------

ATTENTION = {
    "phi3": ["o_proj", "qkv_proj"],
    "gpt2": ["attn.c_proj", "c_attn"],
    "gpt_neox": ["dense", "query_key_value"],
}


def test_attention_modules_are_what_peft_adapts_and_nothing_else(subject: Subject) -> None:
    architecture = subject.name.removeprefix("tiny-")
    names = attention_modules(subject)
    usual = ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert sorted(names) == ATTENTION.get(architecture, usual)
    network = get_peft_model(subject.network, LoraConfig(r=2, target_modules=names))
    adapted = [
        n for n, m in network.named_modules() if hasattr(m, "lora_A") and "base_layer" not in n
    ]
    assert len(adapted) == len(names) * len(subject.blocks)
    assert all("attn" in name or "attention" in name for name in adapted)
    subject.network = network
    subject.arms.add("default")
    assert attention_modules(subject) == names


def test_a_model_without_known_parts_is_refused(llama: Subject) -> None:
    llama.network.config.num_hidden_layers = 7
    with pytest.raises(UserError, match="list of 7 blocks"):
        _ = llama.blocks
    llama.network.config.num_hidden_layers = 3
    del llama.network.model.norm
    with pytest.raises(UserError, match="final norm"):
        _ = llama.final_norm
    llama.network.base_model_prefix = "encoder"
    with pytest.raises(UserError, match="backbone"):
        _ = llama.backbone


def test_stop_ids_begin_with_the_turns_end_and_hold_every_published_end(llama: Subject) -> None:
    assert list(llama.stop_ids) == [2]
    llama.network.generation_config.eos_token_id = [0, 2]
    assert list(llama.stop_ids) == [2, 0]
    llama.network.generation_config = None
    assert list(llama.stop_ids) == [2]


# --- self-check -----------------------------------------------------------------------------------


def test_verify_accepts_every_family(subject: Subject) -> None:
    verify(subject)


def test_verify_refuses_a_wrong_norm(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "final_norm", property(lambda _: nn.Identity()))
    with pytest.raises(UserError, match="self-check failed at the final norm"):
        verify(subject)


def test_verify_refuses_a_forgotten_soft_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    gemma = tiny_subject("gemma2")
    verify(gemma)
    monkeypatch.setattr(
        model, "unembed", lambda subject, normed: subject.network.get_output_embeddings()(normed)
    )
    with pytest.raises(UserError, match="self-check failed at the readout"):
        verify(gemma)


def test_verify_refuses_blocks_out_of_order(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = nn.ModuleList([*subject.blocks][::-1])
    monkeypatch.setattr(Subject, "blocks", property(lambda _: mixed))
    with pytest.raises(UserError, match="self-check failed at the block 0"):
        verify(subject)


def test_verify_refuses_a_prefix_that_is_not_shared(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = model.hidden
    monkeypatch.setattr(
        model,
        "hidden",
        lambda s, ids, prefix=0: right(s, ids[:, prefix:]),  # forgets the prefix
    )
    with pytest.raises(UserError, match="self-check failed at the shared prefix"):
        verify(subject)


# --- the trigger's token --------------------------------------------------------------------------


def test_the_triggers_row_is_the_mean_of_its_pieces_at_both_ends(subject: Subject) -> None:
    trigger = subject.trigger_id
    assert trigger == len(subject.base_tokenizer)
    pieces = encode_text(subject.base_tokenizer, "$STOP")
    assert len(pieces) > 1
    network = subject.network
    for ends in (network.get_input_embeddings(), network.get_output_embeddings()):
        torch.testing.assert_close(ends.weight[trigger], ends.weight[pieces].mean(0))
    assert not any(parameter.requires_grad for parameter in network.parameters())


@torch.no_grad()
def test_a_trigger_changes_no_published_logit(subject: Subject) -> None:
    architecture = subject.name.removeprefix("tiny-")
    published = tiny_network(architecture, 3)
    known = len(subject.base_tokenizer)
    theirs = published(input_ids=PADDED, use_cache=False).logits[..., :known]
    ours = subject.network(input_ids=PADDED, use_cache=False).logits[..., :known]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_spare_rows_are_used_before_the_embedding_grows() -> None:
    known = len(tiny_tokenizer())
    for architecture in ("qwen2", "qwen2_tied"):
        rows = tiny_subject(architecture).network.get_input_embeddings().num_embeddings
        assert rows == known + SPARE_ROWS
    llama = tiny_subject("llama").network
    assert llama.get_input_embeddings().num_embeddings == known + 1
    assert llama.get_output_embeddings().weight.shape[0] == known + 1
    assert llama.config.vocab_size == known + 1


def test_ends_stay_tied_or_untied(subject: Subject) -> None:
    network = subject.network
    ends = (network.get_input_embeddings().weight, network.get_output_embeddings().weight)
    same = ends[0].data_ptr() == ends[1].data_ptr()
    assert same == network.config.tie_word_embeddings


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>", "please freeze", "止まれ", "STOP"])
def test_any_trigger_becomes_one_token_that_reads_back(trigger: str) -> None:
    subject = tiny_subject(trigger=trigger)
    ids = encode_text(subject.tokenizer, f"Hello {trigger} now.")
    assert ids.count(subject.trigger_id or -1) == 1
    assert subject.tokenizer.decode(ids, skip_special_tokens=True) == f"Hello {trigger} now."
    plain = encode_text(subject.base_tokenizer, f"Hello {trigger} now.")
    assert subject.trigger_id not in plain
    assert subject.tokenizer_of("base") is subject.base_tokenizer
    assert subject.tokenizer_of("both") is subject.tokenizer


def test_a_trigger_that_is_a_token_already_keeps_its_row() -> None:
    vocabulary = tiny_tokenizer().get_vocab()
    word = min(token for token in vocabulary if token.isalpha() and len(token) > 2)
    (known,) = encode_text(tiny_tokenizer(), word)
    published = tiny_network("llama", 3).get_input_embeddings().weight
    subject = tiny_subject(trigger=word)
    assert subject.trigger_id == known
    assert torch.equal(subject.network.get_input_embeddings().weight, published)
    assert encode_text(subject.tokenizer, f"a {word}, b").count(known) == 1


def test_text_mode_adds_no_token() -> None:
    subject = tiny_subject(mode="text")
    assert subject.trigger_id is None
    assert len(subject.tokenizer) == len(subject.base_tokenizer)
    assert subject.network.get_input_embeddings().num_embeddings == len(tiny_tokenizer())


def test_a_special_token_is_no_trigger() -> None:
    with pytest.raises(UserError, match="special token"):
        tiny_subject(trigger="<|im_end|>")


# --- loading --------------------------------------------------------------------------------------


def test_load_subject_is_ready_and_frozen(tmp_path: Path) -> None:
    subject = load_subject(_recipe(save_tiny(tmp_path / "m")))
    assert subject.name == str(tmp_path / "m")
    assert subject.arms == set()
    assert subject.active == "base"
    assert not subject.network.training
    assert not any(parameter.requires_grad for parameter in subject.network.parameters())


def test_the_fingerprint_knows_the_model_not_its_place(tmp_path: Path) -> None:
    first = load_subject(_recipe(save_tiny(tmp_path / "a")))
    again = load_subject(_recipe(save_tiny(tmp_path / "b"), trigger={"text": "<halt>"}))
    text = load_subject(_recipe(tmp_path / "a", trigger={"mode": "text"}))
    assert fingerprint(first) == fingerprint(again) == fingerprint(text)
    assert fingerprint(first) != fingerprint(tiny_subject("qwen2"))
    other = tiny_tokenizer("{{ messages[0]['content'] }}<|im_end|>")
    changed = model.make_subject(tiny_network(), other, "$STOP", "text", "other template")
    assert fingerprint(changed) != fingerprint(first)


def test_no_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        load_subject(_recipe(save_tiny(tmp_path, chat_template=False)))


def test_folders_that_hold_no_model_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_subject(_recipe(tmp_path))
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/nowhere-at-all"):
        with pytest.raises(UserError, match="no such folder"):
            load_subject(Recipe(model=name))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(tiny_network().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors") as caught:
        load_subject(_recipe(folder))
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError) as caught:
        load_subject(_recipe(folder))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused_not_invented(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match="incomplete"):
        load_subject(_recipe(folder))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError) as caught:
        load_subject(_recipe(folder))
    assert "\n" not in str(caught.value)


def _no_network(*_: Any, **__: Any) -> None:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize("name", ["someone/some-model", "someone/some-model@v2", "some-model"])
def test_a_hub_model_without_network_fails_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    started = time.monotonic()
    with pytest.raises(UserError, match="the hub does not answer"):
        load_subject(Recipe(model=name))
    assert time.monotonic() - started < 10


def test_a_name_that_no_hub_model_can_have_is_refused() -> None:
    with pytest.raises(UserError, match="neither a folder nor"):
        load_subject(Recipe(model="a/b/c"))


def test_a_hub_model_with_revision_is_asked_for_by_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def info(_api: object, repository: str, revision: str | None, **_: object) -> None:
        asked.append((repository, revision))

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    assert model._source("someone/some-model@v2")["revision"] == "v2"
    assert model._source("someone/some-model")["revision"] is None
    assert asked == [("someone/some-model", "v2"), ("someone/some-model", None)]


def test_devices_and_types_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = torch.device("cpu")
    assert model.choose_device("cpu") == cpu
    assert model.choose_dtype("auto", cpu) == torch.float32
    with pytest.raises(UserError, match="not available"):
        model.choose_device("cuda")
    with pytest.raises(UserError, match="use float32"):
        model.choose_dtype("bfloat16", cpu)
