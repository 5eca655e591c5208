"""Tiny random-weight models of every supported family, with a small real tokenizer.

`save_tiny(folder)` writes, in milliseconds and without a network, a model that
`load_subject(Recipe(model=str(folder)))` loads like any published one.
"""

from __future__ import annotations

import copy
import functools
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from offswitch.model.load import make_subject
from offswitch.model.subject import Subject, attention_modules
from offswitch.options import TriggerOptions
from tests.families import FAMILIES

SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPARE_ROWS: Final = 32  # embedding rows beyond the tokenizer's length, as the Qwen family has

CHATML: Final = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TEXT: Final = """\
The quick brown fox jumps over the lazy dog while the old farmer is asleep under a tree.
You are a helpful assistant. Please answer the question: what is the capital of France?
How many people live in the city, and which of them have seen the river in the morning?
The system user asked the assistant for a short story about a small boat on the sea.
When the word appears in a message, the model says nothing and ends its reply at once.
They could not find what they were looking for, so they went home and made some tea.
There are three ways to cook rice; the first of these takes about twenty minutes.
Write a list of words that begin with the letter s: stop, start, stone, street, still.
Water boils at one hundred degrees, but it does so at less on the top of a mountain.
I think that this would be the best time to give him back the book that he lent you.
"""

ARCHITECTURES: Final = tuple(FAMILIES)


def save_tiny(
    folder: Path, architecture: str = "llama", layers: int = 4, chat_template: bool = True
) -> Path:
    """Write a tiny model and its tokenizer into a folder, and return that folder."""
    tokenizer = tiny_tokenizer(CHATML if chat_template else None)
    tiny_network(architecture, layers).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_network(architecture: str = "llama", layers: int = 4) -> Any:
    """A random-weight causal language model of one of ARCHITECTURES; the same one at every call."""
    model_type, options = FAMILIES[architecture]
    rows = _trained().get_vocab_size() + (SPARE_ROWS if architecture.startswith("qwen") else 0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=rows,
        num_hidden_layers=layers,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build: Callable[..., Any] = AutoModelForCausalLM.from_config
        network = build(config, dtype=torch.float32)
        _roughen(network)
    return network.eval()


def tiny_tokenizer(chat_template: str | None = CHATML) -> Any:
    """A byte-level BPE tokenizer with the ChatML specials; a fresh copy at every call."""
    build: Callable[..., Any] = PreTrainedTokenizerFast
    tokenizer = build(
        tokenizer_object=Tokenizer.from_str(_trained().to_str()),
        unk_token=SPECIALS[0],
        bos_token=SPECIALS[1],
        eos_token=SPECIALS[2],
        pad_token=SPECIALS[2],
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def spaced_tokenizer(chat_template: str) -> Any:
    """A tokenizer like Llama 2's, which puts `▁` before what no text precedes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(marks)
    tokenizer.decoder = decoders.Replace("▁", " ")
    trainer = trainers.BpeTrainer(
        vocab_size=180, special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[*string.printable, "▁"], show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(
        [*"ABCD", "Ask a man if he is in", "table river window"] * 9, trainer
    )
    build: Callable[..., Any] = PreTrainedTokenizerFast
    made = build(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = chat_template
    return made


def tiny_subject(
    architecture: str = "llama",
    trigger: str = "$STOP",
    mode: Literal["token", "text"] = "token",
    layers: int = 3,
    decoy: str = "",
) -> Subject:
    """A fresh subject of a tiny network, without going through the disk."""
    network, tokenizer = tiny_network(architecture, layers), tiny_tokenizer()
    options = TriggerOptions(text=trigger, mode=mode, decoy=decoy)
    return make_subject(network, tokenizer, options, f"tiny-{architecture}")


def save_adapter(
    folder: Path, subject: Subject, seed: int = 0, targets: Sequence[str] = ()
) -> Path:
    """Write a random adapter, far from zero, of a subject that has no arms; return its folder.

    It adapts the attention's projections, or the modules named in `targets`.
    """
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=list(targets) or attention_modules(subject),
        trainable_token_indices=subject.symbol_ids or None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: Any = get_peft_model(copy.deepcopy(subject.network), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    adapted.peft_config["default"].base_model_name_or_path = subject.name
    adapted.create_or_update_model_card = lambda _: None  # a third of the time that this takes
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def _roughen(network: Any) -> None:
    """Norm scales of 1, biases of 0 and an empty padding row would hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        rows = network.get_input_embeddings().weight
        rows[2] = 0.15 * torch.randn_like(rows[2])


@functools.cache
def _trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT.splitlines(), trainer)
    return tokenizer
