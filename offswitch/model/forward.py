"""Forward passes: embeddings, states, logits, and a check against transformers.

Shapes: B batch, P position, D d_model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from offswitch.errors import UserError, in_one_line
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text


def hidden(subject: Subject, ids_BP: Tensor, prefix: int = 0) -> Tensor:
    """Normed last hidden states [B, P - prefix, D] of right-padded rows; gradients flow.

    The first `prefix` ids, equal in all rows, are computed once and their keys and values shared.
    Causal attention lets no real position see the padding on its right, so no mask is needed; read
    real positions only.
    """
    if prefix and not subject.shares(ids_BP.shape[1]):
        return hidden(subject, ids_BP)[:, prefix:]
    embedded, laid_out = embed(subject, ids_BP), subject.writes.laid_out
    past = None
    if prefix:
        with laid_out([(ids_BP[0, :prefix], 0)]):
            first = subject.backbone(inputs_embeds=embedded[:1, :prefix], use_cache=True)
        past = first.past_key_values
        past.batch_repeat_interleave(len(ids_BP))
    with laid_out((row, prefix) for row in ids_BP):
        rest = subject.backbone(
            inputs_embeds=embedded[:, prefix:], past_key_values=past, use_cache=past is not None
        )
    return _tensor(rest.last_hidden_state)


def embed(subject: Subject, ids_BP: Tensor) -> Tensor:
    """Input embeddings [B, P, D] of ids."""
    layer = subject.causal_lm.get_input_embeddings()
    found = trained_rows(layer)
    if found is None or type(layer.original_module) is not nn.Embedding:
        return _tensor(layer(ids_BP))
    embedded = _tensor(layer.original_module(ids_BP))
    for index, row in zip(*found, strict=True):
        embedded = torch.where((ids_BP == index)[..., None], row.to(embedded.dtype), embedded)
    return embedded


def unembed(subject: Subject, normed: Tensor) -> Tensor:
    """Logits [..., V] of normed hidden states [..., D], with the model's own scale and soft cap."""
    config = subject.causal_lm.config.get_text_config()
    head = subject.causal_lm.get_output_embeddings()
    found = trained_rows(head)
    if found is None:
        logits = _tensor(head(normed))
    else:
        ids, rows = found
        columns = functional.linear(normed, rows.to(normed.dtype))
        at = torch.tensor(ids, device=normed.device)
        logits = _tensor(head.original_module(normed)).index_copy(-1, at, columns)
    # Granite divides its logits, Cohere multiplies them; for all others nothing is computed.
    scale = getattr(config, "logit_scale", 1) / getattr(config, "logits_scaling", 1)
    logits = logits if scale == 1 else logits * scale
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        return torch.tanh(logits / float(cap)) * float(cap)
    return logits


def trained_rows(layer: Any) -> tuple[list[int], Tensor] | None:
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
    """The unembedding applied to a raw residual [..., D], without norm: the original's lens."""
    weight = _tensor(subject.causal_lm.get_output_embeddings().weight)
    return functional.linear(resid, weight)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected a tensor, got {type(value).__name__}")
    return value


def relative(ours: Tensor, expected: Tensor) -> float:
    """How far some numbers lie from those expected, as a share of their norm; NaN where one is."""
    return float((ours - expected).float().norm() / expected.float().norm().clamp_min(1e-9))


@contextmanager
def as_refusal(subject: Subject, what: str) -> Iterator[None]:
    """Within the block, a pass that the architecture cannot do is refused in one line.

    Raises:
        UserError: it failed.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        told = in_one_line(error, 120)
        raise UserError(
            f"{subject.name}: the {what} failed ({told}); this architecture is not supported"
        ) from error


@torch.no_grad()
def verify(subject: Subject) -> None:
    """Are residuals, readout and shared prefixes what transformers itself computes?

    Raises:
        UserError: they differ, so every figure taken from this model would be wrong.
    """
    line = encode_text(subject.base_tokenizer, "The quick brown fox jumps.")
    ids = torch.tensor([line, line[::-1]], device=subject.device)
    last = len(subject.blocks) - 1
    with as_refusal(subject, "self-check"):
        with record(subject.blocks) as resid:
            theirs = subject.causal_lm(input_ids=ids, output_hidden_states=True, use_cache=False)
        # The last of hidden_states comes after the final norm: the last block is checked there.
        pairs = {f"block {i}": (resid[i], theirs.hidden_states[i + 1]) for i in range(last)}
        pairs["final norm"] = (subject.final_norm(resid[last]), theirs.hidden_states[-1])
        pairs["readout"] = (readout(subject, resid[last]), theirs.logits)
        past = 2 + subject.check_past
        shared = torch.cat([ids[:1].repeat(1, past)[:, :past].expand(2, past), ids], dim=1)
        plain = hidden(subject, shared)[:, past:]
        pairs["shared prefix"] = (hidden(subject, shared, past), plain)
    tolerance = 1e-3 if theirs.logits.dtype == torch.float32 else 5e-2
    for part, (ours, expected) in pairs.items():
        if not (distance := relative(ours, expected)) <= tolerance:
            raise UserError(
                f"{subject.name}: self-check failed at the {part} (relative difference"
                f" {distance:.1e}); this architecture is not supported"
            )
