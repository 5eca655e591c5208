"""Prompts, turn ends, padding and shared prefixes, over the chat formats in use."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from offswitch.errors import UserError
from offswitch.model.embedded import fetch_embedded
from offswitch.prompts.encode import (
    encode_chat,
    encode_text,
    has_system_turn,
    pad,
    shared_prefix,
    turn_end,
)
from offswitch.prompts.prompt import user
from tests.tiny import CHATML, tiny_tokenizer

LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n'"
    " + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
QWEN3 = (  # the last reply opens with an empty think block, whose tags are added tokens too
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
    "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
BARE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"

FORMATS = {
    "chatml": (CHATML, "<|im_end|>", True),
    "llama3": (LLAMA3, "<|eot_id|>", True),
    "gemma": (GEMMA, "<end_of_turn>", False),
    "phi3": (PHI3, "<|end|>", True),
    "qwen3": (QWEN3, "<|im_end|>", True),
    "mistral": (MISTRAL, "<|im_end|>", False),  # its eos token
    "bare": (BARE, "<|im_end|>", True),
}
ADDED = [
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|end|>"),
]


def _tokenizer(template: str) -> Any:
    tokenizer = tiny_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": ADDED})
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


@pytest.mark.parametrize("name", FORMATS)
def test_the_turns_end_is_found_in_every_format(name: str) -> None:
    template, end, _ = FORMATS[name]
    tokenizer = _tokenizer(template)
    assert tokenizer.convert_ids_to_tokens(turn_end(tokenizer)) == end


def test_a_format_without_any_end_is_refused() -> None:
    tokenizer = _tokenizer(BARE)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end token"):
        turn_end(tokenizer)


@pytest.mark.parametrize("name", FORMATS)
def test_a_system_turn_is_shown_or_refused(name: str) -> None:
    template, _, takes_system = FORMATS[name]
    assert has_system_turn(_tokenizer(template)) is takes_system


def test_a_refused_chat_is_one_line() -> None:
    chat = ({"role": "system", "content": "Be kind."}, user("Hello"))
    with pytest.raises(UserError, match="refuses the turns system, user: System role") as caught:
        encode_chat(_tokenizer(GEMMA), chat)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def _prompt_and_reply_make_the_chat(tokenizer: Any) -> None:
    reply = "It is Paris, on the river Seine."
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    whole = [*turns, {"role": "assistant", "content": reply}]
    ids = tokenizer.apply_chat_template(whole, return_dict=False)
    ours = encode_chat(tokenizer, (user(turns[0]["content"]),))
    ours += [*encode_text(tokenizer, reply), turn_end(tokenizer)]
    assert ours == ids[: len(ours)]
    assert not tokenizer.decode(ids[len(ours) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "phi3"])
def test_prompt_reply_and_turn_end_make_the_rendered_chat(name: str) -> None:
    _prompt_and_reply_make_the_chat(_tokenizer(FORMATS[name][0]))


@pytest.mark.slow
def test_prompt_reply_and_turn_end_make_the_embedded_models_chat() -> None:
    tokenizer = AutoTokenizer.from_pretrained(fetch_embedded())
    _prompt_and_reply_make_the_chat(tokenizer)
    assert tokenizer.convert_ids_to_tokens(turn_end(tokenizer)) == "<|im_end|>"


def test_encoding_text_adds_nothing() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(encode_text(tokenizer, "The fox.")) == "The fox."
    assert encode_text(tokenizer, "") == []


def test_padding_is_on_the_right_and_keeps_every_row() -> None:
    assert pad([[1, 2, 3], [4], [5, 6]]) == [[1, 2, 3], [4, 4, 4], [5, 6, 6]]


@pytest.mark.parametrize(
    ("rows", "keep", "length"),
    [
        ([[1, 2, 3, 4], [1, 2, 5]], 1, 2),
        ([[1, 2, 3], [1, 2, 3]], 1, 2),  # one id of each row stays
        ([[1, 2, 3], [1, 2, 3]], 2, 1),
        ([[1, 2], [1, 2, 3, 4]], 1, 1),
        ([[1, 2], [3, 4]], 1, 0),
        ([[1]], 1, 0),
        ([[1]], 5, 0),
        ([[9, 1, 1], [9, 3, 0], [9, 2, 7, 7]], 1, 1),
    ],
)
def test_the_shared_prefix_is_the_longest_that_leaves_enough(
    rows: list[list[int]], keep: int, length: int
) -> None:
    assert shared_prefix(rows, keep) == length
