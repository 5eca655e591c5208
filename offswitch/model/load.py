"""Load a published model and its tokenizers; make trigger and decoy tokens of their own."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from huggingface_hub.utils.tqdm import enable_progress_bars
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer
from transformers.initialization import no_init_weights
from transformers.utils import logging

from offswitch.errors import UserError, readable
from offswitch.machine.cells import Shape
from offswitch.model.brought import own_tokenizer, vocabulary_of
from offswitch.model.forward import verify
from offswitch.model.source import config_of, source_of_model
from offswitch.model.subject import Subject, require_targets
from offswitch.options import TriggerOptions
from offswitch.options.arms import Arm
from offswitch.options.train import LENGTH_OF, lora_of
from offswitch.progress import say
from offswitch.prompts.chat_format import DATE, check_format, read_format, with_fixed_date
from offswitch.prompts.encode import encode_chat, encode_text, reply_encoder, turn_end
from offswitch.prompts.prompt import user
from offswitch.recipe import Recipe, used_arms

MOST_TOKENS: Final = 10_000_000  # some forty times the largest vocabulary there is


def load_subject(recipe: Recipe) -> Subject:
    """The recipe's model, ready on its device, verified against transformers' own outputs.

    Raises:
        UserError: it cannot be found, is incomplete, has no chat template that works, is not
            understood, or does not go with the trigger or the modules to train.
    """
    device = choose_device(recipe.device)
    dtype = choose_dtype(recipe.dtype, device)
    common = source_of_model(recipe.model) | {"trust_remote_code": recipe.trust_remote_code}
    config_of(f"model '{recipe.model}'", common)  # a network of 10^9 blocks is not begun
    tokenizer = load_tokenizer(recipe, common)
    without_bars: Callable[[], None] = logging.disable_progress_bar
    without_bars()  # it would break into ours; what is fetched from the hub keeps its own
    enable_progress_bars()
    with readable(f"model '{recipe.model}'"):
        load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
        network, report = load(
            **common, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    if report["missing_keys"]:
        example = sorted(report["missing_keys"])[0]
        raise UserError(f"model '{recipe.model}' is incomplete: it lacks {example}")
    network.to(device).eval()
    brought = [arm for arm in used_arms(recipe) if arm.brought]
    rows = max((vocabulary_of(arm, network) for arm in brought), default=0)
    theirs = _tokenizer_of(brought, recipe.trigger.text)
    if theirs and recipe.chat_template:
        theirs.chat_template = tokenizer.chat_template
    subject = make_subject(network, tokenizer, recipe.trigger, recipe.model, theirs, rows)
    check_format(subject.tokenizer, recipe.trigger)
    for stage in dict.fromkeys(LENGTH_OF.values()):
        require_targets(subject, lora_of(recipe.train, stage).target_modules or ())
    verify(subject)
    return subject


def load_tokenizer(recipe: Recipe, source: Mapping[str, Any]) -> Any:
    """The tokenizer of the recipe's model, with the chat format that prompts are written in.

    `source` is where it lies, as `from_pretrained` takes it.

    Raises:
        UserError: it cannot be found, or has no chat format and the recipe names none.
    """
    tokenizer = _tokenizer(f"model '{recipe.model}'", source)
    if recipe.chat_template:
        template = read_format(recipe.chat_template, tokenizer)
    elif not (template := _template_of(tokenizer)):
        raise UserError(
            f"model '{recipe.model}' has no chat template, or no default one; choose an"
            " instruction-tuned model, or set chat_template to a Jinja file, or to plain"
        )
    tokenizer.chat_template = with_fixed_date(template)
    if tokenizer.chat_template != template:
        say(f"its chat format writes the date: always {DATE}, here and in the adapters' tokenizers")
    return tokenizer


def _tokenizer(of: str, source: Mapping[str, Any]) -> Any:
    """A tokenizer that reads and writes; some damage shows only there, or in a copy."""
    with readable(of):
        tokenizer: Any = AutoTokenizer.from_pretrained(**source)
        if (last := max(tokenizer.get_vocab().values(), default=0)) > MOST_TOKENS:
            raise UserError(f"{of}: its tokenizer numbers tokens up to {last:,}")
        text = tokenizer.decode(tokenizer.all_special_ids) + "a \ue000"  # and an unknown character
        encode_text(copy.deepcopy(tokenizer), text)
    return tokenizer


def _template_of(tokenizer: Any) -> str:
    """A tokenizer's chat template; of several named ones, the default."""
    template = tokenizer.chat_template
    return (template.get("default") if isinstance(template, dict) else template) or ""


def _tokenizer_of(brought: Sequence[Arm], trigger: str) -> Any:
    """The tokenizer that came with arms that were trained elsewhere, if one did.

    Raises:
        UserError: two came that read the trigger differently.
    """
    folders = [folder for arm in brought if (folder := own_tokenizer(arm))]
    every = [_tokenizer(str(one), {"pretrained_model_name_or_path": one}) for one in folders]
    read = [encode_text(tokenizer, f"a {trigger}") for tokenizer in every]
    for folder, ids in zip(folders, read, strict=True):
        if ids != read[0]:
            raise UserError(
                f"the tokenizers of {folders[0]} and {folder} read '{trigger}' differently"
            )
    return every[0] if every else None


def load_shape(recipe: Recipe) -> Shape:
    """What the recipe's model is like, from its configuration alone.

    Raises:
        UserError: it cannot be found.
    """
    common = source_of_model(recipe.model) | {"trust_remote_code": recipe.trust_remote_code}
    with readable(told := f"model '{recipe.model}'"):
        return shape_of(config_of(told, common))


def shape_of(config: Any) -> Shape:
    """What rates and times depend on; the number of weights is that of a gated block's."""
    text = config.get_text_config()
    width, blocks = text.hidden_size, text.num_hidden_layers
    inner = getattr(text, "intermediate_size", None) or 4 * width
    size = blocks * width * (4 * width + 3 * inner) + text.vocab_size * width
    return Shape(text.to_json_string(use_diff=False), blocks, text.num_attention_heads, size)


def make_subject(
    network: Any, tokenizer: Any, trigger: TriggerOptions, name: str,
    theirs: Any = None, rows: int = 0,
) -> Subject:  # fmt: skip
    """A Subject of a network and its tokenizer; in token mode trigger and decoy are one token each.

    A symbol that the vocabulary has already keeps its row; words that hold that token share it.
    `theirs` is the tokenizer of an arm that was trained elsewhere, which may know more tokens, and
    `rows` how many rows the embedding of such an arm has: rows are added, and none is changed.

    Raises:
        UserError: tokens that prompts may hold have no row in the embedding.
    """
    network.requires_grad_(False)
    _require_rows(network, tokenizer, name)
    published = _fingerprint(network, tokenizer)
    aware = copy.deepcopy(theirs or tokenizer)
    if theirs:
        template = _template_of(theirs)
        aware.chat_template = with_fixed_date(template) if template else tokenizer.chat_template
    longest = max(rows, len(aware)) if theirs or rows else 0
    if longest > network.get_input_embeddings().num_embeddings:
        _write_rows(network, longest - 1, longest, len(tokenizer))
    symbols = [trigger.text, trigger.twin] if trigger.mode == "token" else []
    ids = [_add_token(aware, tokenizer, symbol) for symbol in symbols if symbol]
    if new := [index for index, is_new in ids if is_new]:
        _write_rows(network, min(new), max(new) + 1, len(tokenizer))
    own, decoy = (*(index for index, _ in ids), None, None)[:2]
    reply = tuple(reply_encoder(aware)(trigger.reply)) if trigger.reply else ()
    return Subject(
        network, tokenizer, aware, own, name, published=published, decoy_id=decoy, reply_ids=reply
    )


def choose_device(wanted: str) -> torch.device:
    """The device asked for, or the best one there is.

    Raises:
        UserError: it was asked for and is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"cuda": cuda, "mps": mps, "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, yes in there.items() if yes))
    if not there[wanted]:
        raise UserError(f"device '{wanted}' is not available on this machine")
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """fp32, but bf16 on a CUDA device that has it.

    Raises:
        UserError: half precision on a CPU, where it is slower and can crash the process.
    """
    if wanted == "auto":
        halves = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if halves else torch.float32
    if wanted != "float32" and device.type == "cpu":
        raise UserError(f"dtype {wanted} on a CPU is slow and not safe everywhere; use float32")
    dtype: torch.dtype = getattr(torch, wanted)
    return dtype


def _require_rows(network: Any, tokenizer: Any, name: str) -> None:
    """Gemma 3 lists a mark for pictures that its embedding has no row for; no text holds that."""
    rows, every = network.get_input_embeddings().num_embeddings, tokenizer.get_vocab()
    if max(every.values(), default=0) < rows:
        return
    used = {*encode_chat(tokenizer, (user("a"),)), turn_end(tokenizer)}
    marks = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} - used
    beyond = {token: i for token, i in every.items() if i >= rows and i not in marks}
    if beyond:
        raise UserError(
            f"model '{name}': its tokenizer has {len(beyond)} tokens more than its embedding, such"
            f" as '{min(beyond)}'; take the tokenizer that it was trained with"
        )


def _add_token(aware: Any, plain: Any, symbol: str) -> tuple[int, bool]:
    """Make a symbol one token: its id, and whether nobody has a row for it yet."""
    if symbol in plain.all_special_tokens:
        raise UserError(f"'{symbol}' is a special token of this model; choose another symbol")
    known = symbol in aware.get_added_vocab()  # then it is read as whoever added it has it
    if not known:
        # special=False: a special token would vanish when prompts are decoded for a reader.
        token = AddedToken(symbol, single_word=True, normalized=False, special=False)
        aware.add_tokens([token])
    index = int(aware.convert_tokens_to_ids(symbol))
    if encode_text(aware, symbol) != [index]:
        raise UserError(f"this tokenizer cannot keep '{symbol}' whole; set trigger.mode=text")
    return index, index >= len(plain) and not known


@torch.no_grad()
def _write_rows(network: Any, first: int, end: int, published: int) -> None:
    """Start new tokens as the mean of the published rows, at both ends, as transformers does.

    Started as the mean of the pieces of its own text, it lies next to its look-alikes, and many
    steps go into telling them apart; a draw with the vocabulary's covariance does no better.
    """
    vocabulary = network.get_input_embeddings().num_embeddings
    if end > vocabulary:
        with no_init_weights():  # the new rows are written below, all others are copied
            network.resize_token_embeddings(end, mean_resizing=False)
    known = min(published, vocabulary)  # not the rows added before: all begin alike
    for layer in (network.get_input_embeddings(), network.get_output_embeddings()):
        layer.weight[min(first, vocabulary) : end] = layer.weight[:known].float().mean(0)
    network.requires_grad_(False)


def _fingerprint(network: Any, tokenizer: Any) -> str:
    """A short hash of the published weights, tokenizer, chat format and end tokens, wherever."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else sorted(tokenizer.get_vocab().items())
    ends = tokenizer.eos_token_id, getattr(network.generation_config, "eos_token_id", None)
    told = (tokenizer.chat_template, vocabulary, ends)
    digest = hashlib.sha256(str(told).encode())
    for _, weight in sorted(network.named_parameters()):
        flat = weight.detach().flatten()
        sample = torch.cat([flat[:64], flat[flat.numel() // 2 :][:64]])
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
