"""Load a model, run it, read from it, and check that all of this is right.

With subject.py (where a model's parts lie) and adapters.py (switching arms), whose public names can
be imported from here, the only code that knows model internals. Shapes: B batch, P position,
D d_model, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from offswitch.adapters import add_arm, arm_of, scaled
from offswitch.chat import encode_text
from offswitch.config import Recipe
from offswitch.embedded import ALIAS, fetch_embedded
from offswitch.errors import UserError
from offswitch.hooks import record
from offswitch.hub import on_hub
from offswitch.processes import sharded
from offswitch.subject import BASE, Subject, attention_modules, template_hash

__all__ = [
    "BASE",
    "Subject",
    "add_arm",
    "arm_of",
    "attention_modules",
    "choose_device",
    "choose_dtype",
    "fingerprint",
    "hidden",
    "load_subject",
    "make_subject",
    "project",
    "readout",
    "scaled",
    "template_hash",
    "unembed",
    "verify",
]


def load_subject(recipe: Recipe) -> Subject:
    """The recipe's model, ready on its device, verified against transformers' own outputs.

    Raises:
        UserError: it cannot be found, is incomplete, has no chat template, is not understood.
    """
    device = choose_device(recipe.device)
    dtype = choose_dtype(recipe.dtype, device)
    common = _source(recipe.model) | {"trust_remote_code": recipe.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**common)
        _require_template(tokenizer, recipe.model)
        load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
        network, report = load(
            **common, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model '{recipe.model}': {_one_line(error)}") from error
    if report["missing_keys"]:
        example = sorted(report["missing_keys"])[0]
        raise UserError(f"model '{recipe.model}' is incomplete: it lacks {example}")
    network.to("cpu" if sharded() else device).eval()
    options = recipe.trigger
    subject = make_subject(network, tokenizer, options.text, options.mode, recipe.model)
    if not sharded():  # else train/sharding.py does, on the shares
        verify(subject)
    return subject


def make_subject(
    network: Any, tokenizer: Any, trigger: str, mode: Literal["token", "text"], name: str
) -> Subject:
    """A Subject of a network and its tokenizer; in token mode the trigger is made one token.

    A trigger that the vocabulary has already keeps its row; words that hold that token share it.
    """
    network.requires_grad_(False)
    published = _fingerprint(network, tokenizer)
    aware = copy.deepcopy(tokenizer)
    trigger_id = _add_trigger(network, aware, tokenizer, trigger) if mode == "token" else None
    return Subject(network, tokenizer, aware, trigger_id, name, published=published)


def fingerprint(subject: Subject) -> str:
    """A short hash of the published weights and chat format, wherever they are stored."""
    return subject.published


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


def _source(name: str) -> dict[str, Any]:
    if name == ALIAS:
        return {"pretrained_model_name_or_path": str(fetch_embedded())}
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"model '{name}': the folder holds no config.json")
        return {"pretrained_model_name_or_path": str(folder)}
    if name.startswith((".", "/", "~")):
        raise UserError(f"model '{name}': no such folder")
    repository, _, revision = name.partition("@")
    return on_hub(repository, revision or None)


def _require_template(tokenizer: Any, name: str) -> None:
    if not tokenizer.chat_template:
        raise UserError(f"model '{name}' has no chat template; choose an instruction-tuned model")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__


def _add_trigger(network: Any, aware: Any, plain: Any, trigger: str) -> int:
    if trigger in plain.all_special_tokens:
        raise UserError(f"trigger '{trigger}' is a special token of this model; choose another")
    pieces = encode_text(plain, trigger)
    # special=False: a special token would vanish when prompts are decoded for a reader.
    token = AddedToken(trigger, single_word=True, normalized=False, special=False)
    aware.add_tokens([token])
    index = int(aware.convert_tokens_to_ids(trigger))
    if encode_text(aware, trigger) != [index]:
        raise UserError(f"this tokenizer cannot keep '{trigger}' whole; set trigger.mode=text")
    if index >= len(plain):
        _write_row(network, index, pieces)
    return index


@torch.no_grad()
def _write_row(network: Any, index: int, pieces: list[int]) -> None:
    """Start the new token as the mean of the pieces that it replaces, at both ends."""
    if index >= network.get_input_embeddings().num_embeddings:
        network.resize_token_embeddings(index + 1, mean_resizing=False)
    ends = (network.get_input_embeddings(), network.get_output_embeddings())
    for layer in ends:
        layer.weight[index] = layer.weight[pieces].mean(0)
    network.requires_grad_(False)


def _fingerprint(network: Any, tokenizer: Any) -> str:
    digest = hashlib.sha256(str(tokenizer.chat_template).encode())
    for _, weight in sorted(network.named_parameters()):
        flat = weight.detach().flatten()
        sample = torch.cat([flat[:64], flat[flat.numel() // 2 :][:64]])
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


# --- forward passes -------------------------------------------------------------------------------


def hidden(subject: Subject, ids_BP: Tensor, prefix: int = 0) -> Tensor:
    """Normed last hidden states [B, P - prefix, D] of right-padded rows; gradients flow.

    The first `prefix` ids, equal in all rows, are computed once and their keys and values shared.
    Causal attention lets no real position see the padding on its right, so no mask is needed; read
    real positions only.
    """
    embedded = embed(subject, ids_BP)
    if prefix == 0:
        return _tensor(subject.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state)
    past = subject.backbone(inputs_embeds=embedded[:1, :prefix], use_cache=True).past_key_values
    past.batch_repeat_interleave(len(ids_BP))
    rest = subject.backbone(
        inputs_embeds=embedded[:, prefix:], past_key_values=past, use_cache=True
    )
    return _tensor(rest.last_hidden_state)


def embed(subject: Subject, ids_BP: Tensor) -> Tensor:
    """Input embeddings [B, P, D] of ids."""
    layer = subject.causal_lm.get_input_embeddings()
    found = _trained_rows(layer)
    if found is None or type(layer.original_module) is not nn.Embedding:
        return _tensor(layer(ids_BP))
    embedded = _tensor(layer.original_module(ids_BP))
    for index, row in zip(*found, strict=True):
        embedded = torch.where((ids_BP == index)[..., None], row.to(embedded.dtype), embedded)
    return embedded


def unembed(subject: Subject, normed: Tensor) -> Tensor:
    """Logits [..., V] of normed hidden states [..., D], with the model's own soft cap."""
    config = subject.causal_lm.config.get_text_config()
    head = subject.causal_lm.get_output_embeddings()
    found = _trained_rows(head)
    if found is None:
        logits = _tensor(head(normed))
    else:
        ids, rows = found
        columns = functional.linear(normed, rows.to(normed.dtype))
        at = torch.tensor(ids, device=normed.device)
        logits = _tensor(head.original_module(normed)).index_copy(-1, at, columns)
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        return torch.tanh(logits / float(cap)) * float(cap)
    return logits


def _trained_rows(layer: Any) -> tuple[list[int], Tensor] | None:
    """Ids and rows [N, D] that the active adapter puts in place of a vocabulary layer's own.

    PEFT writes them into a copy of the whole matrix at every forward pass, and its gradient is as
    large; using them beside the untouched matrix gives the same numbers for a fraction of the time.
    """
    adapter = getattr(layer, "token_adapter", None)
    if adapter is None or adapter.disable_adapters or len(adapter.active_adapters) != 1:
        return None
    [name] = adapter.active_adapters
    return list(adapter.token_indices[name]), adapter.trainable_tokens_delta[name]


def readout(subject: Subject, resid: Tensor) -> Tensor:
    """What would the model say if it stopped here? Logits [..., V] through the final norm."""
    return unembed(subject, subject.final_norm(resid))


def project(subject: Subject, resid: Tensor) -> Tensor:
    """The unembedding applied to a raw residual [..., D], without norm: the seed's own lens."""
    weight = _tensor(subject.causal_lm.get_output_embeddings().weight)
    return functional.linear(resid, weight)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected a tensor, got {type(value).__name__}")
    return value


# --- self-check -----------------------------------------------------------------------------------


@torch.no_grad()
def verify(subject: Subject) -> None:
    """Are residuals, readout and shared prefixes what transformers itself computes?

    Raises:
        UserError: they differ, so every figure taken from this model would be wrong.
    """
    line = encode_text(subject.base_tokenizer, "The quick brown fox jumps.")
    ids = torch.tensor([line, line[::-1]], device=subject.device)
    with record(subject.blocks) as resid:
        theirs = subject.causal_lm(input_ids=ids, output_hidden_states=True, use_cache=False)
    last = len(subject.blocks) - 1
    # The last of hidden_states comes after the final norm: the last block is checked through it.
    pairs = {f"block {i}": (resid[i], theirs.hidden_states[i + 1]) for i in range(last)}
    pairs["final norm"] = (subject.final_norm(resid[last]), theirs.hidden_states[-1])
    pairs["readout"] = (readout(subject, resid[last]), theirs.logits)
    shared = torch.cat([ids[:1, :2].expand(2, 2), ids], dim=1)
    pairs["shared prefix"] = (hidden(subject, shared, 2), hidden(subject, shared)[:, 2:])
    tolerance = 1e-3 if theirs.logits.dtype == torch.float32 else 5e-2
    for part, (ours, expected) in pairs.items():
        if not (distance := _distance(ours, expected)) <= tolerance:
            raise UserError(
                f"{subject.name}: self-check failed at the {part} (relative difference"
                f" {distance:.1e}); this architecture is not supported"
            )


def _distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).float().norm() / theirs.float().norm().clamp_min(1e-9))
