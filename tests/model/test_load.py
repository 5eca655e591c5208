"""A model is loaded whole, with its trigger as one token, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from offswitch.errors import UserError
from offswitch.model import load as model
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.encode import encode_text, render
from offswitch.prompts.prompt import user
from offswitch.recipe import Recipe
from tests.model.strangers import save_stranger
from tests.tiny import CHATML, SPARE_ROWS, save_tiny, tiny_network, tiny_subject, tiny_tokenizer

PROMPTS = torch.tensor([[5, 40, 300, 7, 90, 33, 12, 8, 9, 10, 250, 77]])


def _recipe(folder: Path, **options: Any) -> Recipe:
    return Recipe(model=str(folder), **options)


# --- the trigger's token --------------------------------------------------------------------------


def test_the_triggers_row_is_the_mean_of_the_vocabulary_at_both_ends(subject: Subject) -> None:
    trigger = subject.trigger_id
    assert trigger == len(subject.base_tokenizer)
    pieces = encode_text(subject.base_tokenizer, "$STOP")
    network = subject.network
    for ends in (network.get_input_embeddings(), network.get_output_embeddings()):
        torch.testing.assert_close(ends.weight[trigger], ends.weight[:trigger].mean(0))
        of_its_text = ends.weight[pieces].mean(0)
        assert float((ends.weight[trigger] - of_its_text).norm() / of_its_text.norm()) > 0.5
    assert not any(parameter.requires_grad for parameter in network.parameters())


@torch.no_grad()
def test_a_trigger_changes_no_published_logit(subject: Subject) -> None:
    architecture = subject.name.removeprefix("tiny-")
    published = tiny_network(architecture, 3)
    known = len(subject.base_tokenizer)
    theirs = published(input_ids=PROMPTS, use_cache=False).logits[..., :known]
    ours = subject.network(input_ids=PROMPTS, use_cache=False).logits[..., :known]
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
    subject = tiny_subject(mode="text", decoy="$ECHO")
    assert subject.symbol_ids == []
    assert len(subject.tokenizer) == len(subject.base_tokenizer)
    assert subject.network.get_input_embeddings().num_embeddings == len(tiny_tokenizer())


def test_tokens_that_the_embedding_has_no_row_for_are_refused() -> None:
    wrong = tiny_tokenizer()
    wrong.add_tokens(["<one>", "<two>"])
    with pytest.raises(UserError, match="2 tokens more than its embedding, such as '<one>'"):
        model.make_subject(tiny_network(), wrong, TriggerOptions(), "tiny")
    wrong = tiny_tokenizer(CHATML.replace("<|im_end|>", "<end>"))  # added, and never trained
    wrong.add_tokens(["<end>"], special_tokens=True)
    with pytest.raises(UserError, match="such as '<end>'"):
        model.make_subject(tiny_network(), wrong, TriggerOptions(), "tiny")


def test_a_mark_for_pictures_without_a_row_of_its_own_changes_nothing_from_load_to_load() -> None:
    rows = []
    for seed in (1, 2):
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens(["<image>"], special_tokens=True)
        torch.manual_seed(seed)
        made = model.make_subject(tiny_network(), tokenizer, TriggerOptions(), "tiny")
        rows.append(made.network.get_input_embeddings().weight)
    assert len(rows[0]) == len(tiny_tokenizer()) + 3
    torch.testing.assert_close(*rows, rtol=0, atol=0)


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
    assert first.published == again.published == text.published
    assert first.published != tiny_subject("qwen2").published
    other = tiny_tokenizer("{{ messages[0]['content'] }}<|im_end|>")
    plain = TriggerOptions(mode="text")
    changed = model.make_subject(tiny_network(), other, plain, "other template")
    assert changed.published != first.published


def test_the_fingerprint_knows_the_tokenizer_and_what_ends_a_reply(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    seen = [load_subject(_recipe(folder)).published]
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, 0]}))
    seen.append(load_subject(_recipe(folder)).published)
    path = folder / "tokenizer.json"
    merges = json.loads(path.read_text())
    merges["model"]["merges"].pop()
    path.write_text(json.dumps(merges))
    seen.append(load_subject(_recipe(folder)).published)
    assert len({*seen}) == 3


def test_no_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        load_subject(_recipe(save_tiny(tmp_path, chat_template=False)))
    named = tiny_tokenizer({"rag": CHATML, "tool_use": CHATML})  # type: ignore[arg-type]
    named.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no default one"):
        load_subject(_recipe(tmp_path))
    tiny_tokenizer({"default": CHATML, "rag": ""}).save_pretrained(tmp_path)  # type: ignore[arg-type]
    assert load_subject(_recipe(tmp_path)).tokenizer.chat_template == CHATML


def test_a_model_without_a_chat_template_is_asked_in_the_one_that_the_recipe_names(
    tmp_path: Path,
) -> None:
    bare = save_tiny(tmp_path / "bare", chat_template=False)
    (tmp_path / "own.jinja").write_text(CHATML.replace("helpful", "curt"), encoding="utf-8")
    own = load_subject(_recipe(bare, chat_template=str(tmp_path / "own.jinja")))
    plain = load_subject(_recipe(bare, chat_template="plain"))
    for subject, text in [(own, "curt"), (plain, "User: ")]:
        for tokenizer in (subject.base_tokenizer, subject.tokenizer):
            assert text in render(tokenizer, (user("a"),))
    assert own.published != plain.published
    chat = save_tiny(tmp_path / "chat")
    assert load_subject(_recipe(chat, chat_template="plain")).published == plain.published


def test_a_format_that_the_recipe_names_is_an_arms_format_too(tmp_path: Path) -> None:
    made = save_stranger(tmp_path, "llama", "attention", token="$STOP")
    arms = {"theirs": {"role": "switch", "adapter": str(made["theirs"])}}
    told = {"arms": arms, "train": {"arms": ["theirs"]}, "probe": {"arm": "theirs"}}
    asked = {"model": str(made["base"]), **told}
    assert "<|im_start|>" in render(_subject(asked).tokenizer, (user("a"),))
    plain = _subject(asked | {"chat_template": "plain"})
    assert render(plain.tokenizer, (user("a"),)) == "User: a\n\nAssistant:"


def _subject(asked: dict[str, Any]) -> Subject:
    return load_subject(Recipe.model_validate(asked))


def test_a_trigger_or_module_that_does_not_go_with_the_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    with pytest.raises(UserError, match="trigger 'helpful' stands in every prompt"):
        load_subject(_recipe(folder, trigger={"text": "helpful"}))
    for names, told in (
        (["q_proj", "up_porj"], "no matrix 'up_porj'; it has down_proj, gate_proj"),
        (["self_attn"], "no matrix 'self_attn'"),
        (["embed_tokens"], "the trigger's row of 'embed_tokens' is trained by itself"),
    ):
        lora = {"lora": {"target_modules": names}}
        with pytest.raises(UserError, match=told):
            load_subject(_recipe(folder, train=lora))
    load_subject(_recipe(folder, train=lora, trigger={"mode": "text"}))
    good = {"lora": {"target_modules": ["q_proj", "mlp.up_proj", "lm_head"]}}
    load_subject(_recipe(folder, train=good))


def test_folders_that_hold_no_model_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        load_subject(_recipe(tmp_path))
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/nowhere-at-all"):
        with pytest.raises(UserError, match="no such folder"):
            load_subject(Recipe(model=name))


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


def test_devices_and_types_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = torch.device("cpu")
    assert model.choose_device("cpu") == cpu
    assert model.choose_dtype("auto", cpu) == torch.float32
    with pytest.raises(UserError, match="not available"):
        model.choose_device("cuda")
    with pytest.raises(UserError, match="use float32"):
        model.choose_dtype("bfloat16", cpu)
