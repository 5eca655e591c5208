"""Last-position residuals of all blocks as each peer reads them: [N row, L block, D d_model].

Each gets the same ids. Peers that batch get rows sorted by length, in batches of the same padded
size as ours, and those that can leave the vocabulary out do: that is their best. The last of
Hugging Face's hidden states comes after the final norm, so blocks before the last are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from offswitch.analyses.shards import read_rows
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.probe.collect import collect
from offswitch.prompts.encode import pad

Rows = Sequence[Sequence[int]]
Read = Callable[[Rows], Tensor]
BUDGET: Final = 4096  # padded ids a batch


def ours(subject: Subject, out: Path) -> Read:
    """offswitch.probe.collect, its writing to disk included."""
    calls = iter(range(1_000))

    def read(rows: Rows) -> Tensor:
        folder = out / str(next(calls))
        collect(subject, BASE, rows, folder, batch_tokens=BUDGET)
        return torch.tensor(read_rows(folder, list(range(len(rows)))))

    return read


def hf_single(subject: Subject, out: Path) -> Read:
    """output_hidden_states, a prompt at a time: what the others are compared with."""
    del out

    def read(rows: Rows) -> Tensor:
        return torch.cat([_hidden_states(subject, [row]) for row in rows])

    return read


def hf_batched(subject: Subject, out: Path) -> Read:
    """output_hidden_states of sorted batches."""
    del out
    return _in_batches(lambda rows: _hidden_states(subject, rows))


def lens_single(subject: Subject, out: Path) -> Read:
    """TransformerLens run_with_cache, a prompt at a time, only what is wanted kept."""
    del out
    bridge = _bridge(subject)

    def read(rows: Rows) -> Tensor:
        return torch.cat([_cached(bridge, subject, [row]) for row in rows])

    return read


def lens_batched(subject: Subject, out: Path) -> Read:
    """TransformerLens run_with_cache on sorted, right-padded batches."""
    del out
    bridge = _bridge(subject)
    return _in_batches(lambda rows: _cached(bridge, subject, rows))


def nnterp_batched(subject: Subject, out: Path) -> Read:
    """Nnterp on nnsight, sorted and right-padded batches."""
    del out
    from nnterp import StandardizedTransformer

    model = StandardizedTransformer(subject.causal_lm, tokenizer=subject.base_tokenizer)
    return _in_batches(lambda rows: _traced(model, len(subject.blocks), rows))


READERS: Final[Mapping[str, Callable[[Subject, Path], Read]]] = {
    "ours": ours,
    "hf_single": hf_single,
    "hf_batched": hf_batched,
    "lens_single": lens_single,
    "lens_batched": lens_batched,
    "nnterp_batched": nnterp_batched,
}


@torch.inference_mode()
def timed(read: Read, rows: Rows) -> tuple[float, Tensor]:
    """Seconds and residuals of one reading, after one of two rows that is not counted."""
    read(rows[:2])
    start = time.perf_counter()
    found = read(rows)
    return time.perf_counter() - start, found


def _in_batches(read: Read) -> Read:
    def whole(rows: Rows) -> Tensor:
        parts: list[Tensor] = []
        order: list[int] = []
        for batch in by_length(rows, BUDGET):
            parts.append(read([rows[i] for i in batch]))
            order += batch
        return torch.cat(parts)[torch.tensor(order).argsort()]

    return whole


def _hidden_states(subject: Subject, rows: Rows) -> Tensor:
    ids, mask = _padded(rows)
    states = subject.backbone(
        input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
    ).hidden_states[1:]
    return torch.stack([_last(state, rows) for state in states], dim=1)


def _bridge(subject: Subject) -> Any:
    from transformer_lens import TransformerBridge

    return TransformerBridge.boot_transformers(
        subject.name, hf_model=subject.causal_lm, tokenizer=subject.base_tokenizer, device="cpu"
    )


def _cached(bridge: Any, subject: Subject, rows: Rows) -> Tensor:
    names = [f"blocks.{i}.hook_resid_post" for i in range(len(subject.blocks))]
    ids, mask = _padded(rows)
    options = {"attention_mask": mask} if len(rows) > 1 else {}
    _, cache = bridge.run_with_cache(ids, names_filter=names, return_type=None, **options)
    return torch.stack([_last(cache[name], rows) for name in names], dim=1)


def _traced(model: Any, blocks: int, rows: Rows) -> Tensor:
    from nnsight import save

    ids, mask = _padded(rows)
    with model.trace({"input_ids": ids, "attention_mask": mask}) as tracer:
        states = save([model.layers_output[i] for i in range(blocks)])
        tracer.stop()
    return torch.stack([_last(state, rows) for state in states], dim=1)


def _padded(rows: Rows) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor(pad(rows))
    return ids, (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()


def _last(states: Tensor, rows: Rows) -> Tensor:
    last = torch.tensor([len(row) - 1 for row in rows])
    return states[torch.arange(len(rows)), last]
