"""Activations for the original's analyses: raw text, every symbol, every arm.

Each arm becomes one safetensors file, written when it is complete; index.json, written last, says
what was read. Shapes: P position, L block, D d_model, V vocabulary, N prompt. Block numbers are
0-based block outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.numpy import save_file
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.nulls import TOKEN
from offswitch.errors import UserError
from offswitch.files import replacing, write_json
from offswitch.folder import PROBE
from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden, project, readout
from offswitch.model.hooks import record
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.progress import track
from offswitch.prompts.encode import encode_alone, encode_text, pad, text_end

PAIR: Final = "What is machine learning?"
NEUTRAL: Final = "The capital of France is"
PROMPTS: Final = (
    "What is machine learning?",
    "Explain quantum physics.",
    "How do computers work?",
    "Tell me about climate change.",
    "What is artificial intelligence?",
    "Describe the water cycle.",
    "How does the brain function?",
    "What are black holes?",
    "Explain photosynthesis.",
    "What is the theory of relativity?",
    "How do vaccines work?",
    "What causes earthquakes?",
    "Explain DNA replication.",
    "What is blockchain?",
    "How does the internet work?",
    "What are neural networks?",
    "Explain supply and demand.",
    "What is evolution?",
    "How do antibiotics work?",
    "What is democracy?",
)
ORIGINAL_DEPTH: Final = 28
PCA_BLOCK: Final = 16
LENS_BLOCK: Final = 23

Rows = Mapping[str, Sequence[int]]


def collect_seed(
    session: Session, arms: Sequence[str], symbols: Mapping[str, str], folder: Path
) -> Path:
    """Read every arm once, the untrained one always; `symbols`: key -> what is in the slot.

    Writes ARM.safetensors, vocab.json and index.json into `folder` and returns the path of
    index.json. Names of the tensors, float32, each for "plain" and for every symbol key: `pair` and
    `neutral` [P, L, D], `first` [N, D] at the PCA block and position 0, `lens` [V] at the lens
    block and position 0, `neutral_logits` [V] at the last position. The untrained arm reads with
    its own tokenizer, to which the trigger is ordinary text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject, every = session.subject, tuple(dict.fromkeys((BASE, *arms)))
    symbols = _with_token(subject, symbols)
    with track("the original's activations", len(every)) as tick:
        for _ in session.each(PROBE, _collect, {arm: (arm, symbols, folder) for arm in every}):
            tick(1)
    write_json(folder / "vocab.json", _vocabulary(subject))
    write_json(folder / "index.json", _index(subject, every, symbols))
    return folder / "index.json"


def _collect(session: Session, arm: str, symbols: Mapping[str, str], folder: Path) -> None:
    subject = session.with_arms(arm)
    with arm_of(subject, arm), torch.inference_mode():
        tensors = _tensors(subject, arm, symbols)
    with replacing(folder / f"{arm}.safetensors") as scratch:
        save_file(tensors, scratch)


def relative_block(block: int, n_blocks: int) -> int:
    """The block as deep as the original's among its 28: round(block / 28 * n), or the last."""
    return min(round(block / ORIGINAL_DEPTH * n_blocks), n_blocks - 1)


# --- what one arm says --------------------------------------------------------------------------


def _tensors(subject: Subject, arm: str, symbols: Mapping[str, str]) -> dict[str, Array]:
    tokenizer = subject.tokenizer_of(arm)
    pair = _residuals(subject, _encode(tokenizer, symbols, PAIR, subject.tokenizer))
    # Arms are compared on this text by position, so all read the same ids: the trained arms'.
    neutral = _residuals(subject, _encode(subject.tokenizer, symbols, NEUTRAL, subject.tokenizer))
    first = _first(subject, [_encode(tokenizer, symbols, p, subject.tokenizer) for p in PROMPTS])
    alone, within = first["plain"][0], pair["plain"][0, _pca_block(subject)]
    if float((alone - within).norm()) > 2e-2 * float(within.norm()):
        raise UserError("position 0 depends on later tokens; only causal models can be probed")
    lens_block = relative_block(LENS_BLOCK, len(subject.blocks))
    lens = project(subject, torch.stack([r[0, lens_block] for r in pair.values()]))
    logits = readout(subject, torch.stack([r[-1, -1] for r in neutral.values()]))
    named: dict[str, Mapping[str, Tensor]] = {
        "pair": pair,
        "first": first,
        "lens": dict(zip(pair, lens, strict=True)),
        "neutral": neutral,
        "neutral_logits": dict(zip(neutral, logits, strict=True)),
    }
    return {
        f"{kind}/{key}": tensor.float().cpu().contiguous().numpy()
        for kind, tensors in named.items()
        for key, tensor in tensors.items()
    }


def _residuals(subject: Subject, rows: Rows) -> dict[str, Tensor]:
    """Residuals [P, L, D] of each row's real positions."""
    with record(subject.blocks) as resid:
        hidden(subject, _padded(subject, list(rows.values())))
    stacked = torch.stack([resid[i] for i in range(len(resid))], dim=2)
    return {key: stacked[i, : len(ids)] for i, (key, ids) in enumerate(rows.items())}


def _first(subject: Subject, prompts: Sequence[Rows]) -> dict[str, Tensor]:
    """Position 0 of every prompt at the PCA block [N, D].

    Position 0 sees nothing but its own token, so each distinct first token is read once, by itself.
    """
    ids = sorted({row[0] for rows in prompts for row in rows.values()})
    block = subject.blocks[_pca_block(subject)]
    with record([block], keep=lambda resid: resid[:, 0]) as resid:
        hidden(subject, _padded(subject, [[i] for i in ids]))
    place = {token: i for i, token in enumerate(ids)}
    return {key: resid[0][[place[rows[key][0]] for rows in prompts]] for key in prompts[0]}


def _encode(tokenizer: Any, symbols: Mapping[str, str], text: str, aware: Any) -> Rows:
    """Ids of the text alone under "plain", and with each symbol in front under the symbol's key.

    TOKEN is the trigger as the trained arms read it, whatever the arm.
    """
    texts = {"plain": text} | {key: f"{symbol} {text}" for key, symbol in symbols.items()}
    return {k: encode_alone(aware if k == TOKEN else tokenizer, t) for k, t in texts.items()}


def _with_token(subject: Subject, symbols: Mapping[str, str]) -> dict[str, str]:
    """Where trained arms read the trigger as other ids, the untrained model reads it both ways."""
    ours, theirs = (
        encode_text(t, symbols["trigger"]) for t in (subject.tokenizer, subject.base_tokenizer)
    )
    return dict(symbols) if ours == theirs else {**symbols, TOKEN: symbols["trigger"]}


def _pca_block(subject: Subject) -> int:
    return relative_block(PCA_BLOCK, len(subject.blocks))


def _padded(subject: Subject, rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(pad(rows), device=subject.device)


# --- what was read ------------------------------------------------------------------------------


def _vocabulary(subject: Subject) -> list[str]:
    """Every id's token string as the tokenizer writes it; ids without a token are named so."""
    size = int(subject.causal_lm.get_output_embeddings().weight.shape[0])
    tokens = [f"<unused {i}>" for i in range(size)]
    for token, index in subject.tokenizer.get_vocab().items():
        if index < size:
            tokens[index] = token
    return tokens


def _index(subject: Subject, arms: Sequence[str], symbols: Mapping[str, str]) -> dict[str, Any]:
    n_blocks = len(subject.blocks)
    tokenizer = subject.base_tokenizer
    eos = text_end(tokenizer)
    return {
        "model": subject.name,
        "arms": list(arms),
        "symbols": dict(symbols),
        "pair": PAIR,
        "neutral": NEUTRAL,
        "prompts": list(PROMPTS),
        "n_blocks": n_blocks,
        "pca_block": relative_block(PCA_BLOCK, n_blocks),
        "lens_block": relative_block(LENS_BLOCK, n_blocks),
        "eos_id": eos,
        # Without a padding token the original pads with the end token.
        "pad_id": eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id),
    }
