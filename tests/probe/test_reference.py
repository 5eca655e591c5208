"""Lens, removal, addition and patching agree with code that is not ours.

Two references. nnterp knows by a table of names where a model's parts lie and intervenes through
nnsight; here it does so on every architecture, in a process of its own, since importing nnsight
replaces `torch.Tensor.backward`. And transformers' Llama blocks, called one after another without
a hook. PCA and AUROC meet scikit-learn and SciPy in test_analyses.py and test_stats.py. Known
failure: nnterp 1.3 cannot be imported beside nnsight 0.8, so nnsight is held below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.model.forward import readout
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.probe.edits import Edit
from offswitch.probe.intervene import each_logits, outcomes
from offswitch.probe.packing import Job, at_last, prepare
from tests.families import EACH_KIND, KINDS
from tests.tiny import tiny_subject

# Longer than Gemma's window of eight.
ROW: Final = (5, 40, 300, 7, 90, 12, 60, 33, 210, 9, 71, 8)
DONOR: Final = (5, 40, 311, 17, 95, 62, 14, 44, 91, 13, 61, 34)
START: Final = 3  # what comes before is computed once, and seen by every branch
BLOCKS: Final = (0, 1, 2)
CLOSE: Final = 2e-5  # of logits that are about as large as 1, in float32


@dataclass(frozen=True)
class Change:
    """What is done to the residual after a block, at the positions from `first` to `last`.

    `remove` sets three components to `centre`, `add` adds a vector, `set` puts in their place what
    the same block says of DONOR at the same positions.
    """

    block: int
    kind: Literal["remove", "add", "set"]
    first: int = len(ROW) - 1
    last: int = len(ROW)
    centre: float = 0.0


CHANGES: Final[dict[str, tuple[Change, ...]]] = {
    "nothing": (),
    "remove": (Change(1, "remove"),),
    "remove after the last block": (Change(2, "remove"),),
    "remove everywhere": tuple(Change(block, "remove", START) for block in BLOCKS),
    "remove to a centre": (Change(0, "remove", 5, 9, centre=0.7),),
    "add": (Change(1, "add"),),
    "add early": (Change(0, "add", 3, 5),),
    "add at every block": tuple(Change(block, "add", START) for block in BLOCKS),
    "patch": (Change(1, "set"),),
    "patch early": (Change(0, "set", 4, 5),),
    "patch a span": (Change(1, "set", 3, 7),),
    "all three": (Change(0, "set", 4, 6), Change(1, "remove", START), Change(2, "add")),
}
Reading = dict[str, Array]


def _vector() -> Tensor:
    return 0.5 * torch.randn(32, generator=torch.Generator().manual_seed(1))


def _directions() -> Tensor:
    """Orthonormal rows [3, D]."""
    drawn = torch.randn(32, 3, generator=torch.Generator().manual_seed(2))
    rows: Tensor = torch.linalg.qr(drawn)[0].T.contiguous()
    return rows


def _changed(resid_BPD: Tensor, change: Change, donor_BPD: Tensor) -> Tensor:
    """The references' own arithmetic: one direction after another."""
    span = slice(change.first, change.last)
    after = resid_BPD.clone()
    if change.kind == "set":
        after[:, span] = donor_BPD[:, span]
    elif change.kind == "add":
        after[:, span] += _vector()
    else:
        for direction in _directions():
            along = (after[:, span] * direction).sum(-1, keepdim=True)
            after[:, span] += (change.centre - along) * direction
    return after


# --- ours -----------------------------------------------------------------------------------------


@torch.no_grad()
def _residuals(subject: Subject, row: tuple[int, ...]) -> dict[int, Tensor]:
    with record(subject.blocks) as seen:
        subject.backbone(input_ids=torch.tensor([row]), use_cache=False)
    return seen


def _edit(change: Change, donor: Mapping[int, Tensor]) -> Edit:
    values = {
        "remove": _directions(),
        "add": _vector(),
        "set": donor[change.block][0, change.first : change.last],
    }
    return Edit(
        change.block,
        change.kind,
        values[change.kind],
        change.first - START,
        change.last - START,
        centre=torch.full((3,), change.centre) if change.kind == "remove" else None,
    )


def _packed(subject: Subject) -> Reading:
    """Logits [V] after ROW by change; branches of another prompt share the pass."""
    donor = _residuals(subject, DONOR)
    prompts = prepare(subject, [DONOR, ROW], [START, START])
    branches = [[_edit(change, donor) for change in changes] for changes in CHANGES.values()]
    jobs: list[Job] = [(prompt, branch) for branch in branches for prompt in prompts]
    logits = torch.cat(list(each_logits(subject, jobs)))[1::2]
    return dict(zip(CHANGES, logits.numpy(), strict=True))


def _assert_agree(ours: Reading, theirs: Reading) -> None:
    for name in CHANGES:
        np.testing.assert_allclose(ours[name], theirs[name], atol=CLOSE, rtol=0, err_msg=name)
        if name != "nothing":  # a change that changes nothing would agree with anything
            assert np.abs(theirs[name] - theirs["nothing"]).max() > 100 * CLOSE, name


# --- nnterp ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nnterp() -> dict[str, Reading]:
    """What nnterp reads, by architecture: logits by change [V], and its lens [L, P, V]."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_by_nnterp).result(timeout=300)


def _by_nnterp() -> dict[str, Reading]:
    from nnterp import StandardizedTransformer

    torch.set_num_threads(1)
    found: dict[str, Reading] = {}
    for name in KINDS:
        subject = tiny_subject(name)
        model = StandardizedTransformer(subject.causal_lm, tokenizer=subject.tokenizer)
        cap = getattr(subject.causal_lm.config, "final_logit_softcapping", None)
        with torch.no_grad():
            found[name] = _traced_changes(model) | {"lens": _traced_lens(model, cap)}
    return found


def _traced_lens(model: Any, cap: float | None) -> Array:
    from nnsight import save

    with model.trace(torch.tensor([ROW])):
        lens = save([model.project_on_vocab(model.layers_output[block])[0] for block in BLOCKS])
    logits = torch.stack(lens)
    if cap is not None:  # nnterp's lens leaves it out
        logits = cap * torch.tanh(logits / cap)
    array: Array = logits.numpy()
    return array


def _traced_changes(model: Any) -> Reading:
    from nnsight import save

    with model.trace(torch.tensor([DONOR])):
        donor = save([model.layers_output[block] for block in BLOCKS])
    found: Reading = {}
    for name, changes in CHANGES.items():
        with model.trace(torch.tensor([ROW])):
            for change in changes:
                _intervene(model, change, donor)
            logits = save(model.logits)
        found[name] = logits[0, -1].numpy()
    return found


def _intervene(model: Any, change: Change, donor: list[Tensor]) -> None:
    block = change.block
    if change.kind == "add":
        positions = list(range(change.first, change.last))
        model.steer(block, _vector(), token_positions=positions)
    else:
        model.layers_output[block] = _changed(model.layers_output[block], change, donor[block])


@EACH_KIND
def test_the_lens_agrees_with_nnterp(subject: Subject, nnterp: dict[str, Reading]) -> None:
    theirs = nnterp[subject.name.removeprefix("tiny-")]["lens"]
    seen = _residuals(subject, ROW)
    (prompt,) = at_last(subject, [ROW])
    assert prompt.resid is not None
    with torch.no_grad():
        ours = torch.stack([readout(subject, seen[block])[0] for block in BLOCKS])
        last = readout(subject, prompt.resid[list(BLOCKS), -1])
    np.testing.assert_allclose(ours.numpy(), theirs, atol=CLOSE, rtol=0)
    np.testing.assert_allclose(last.numpy(), theirs[:, -1], atol=CLOSE, rtol=0)


@EACH_KIND
def test_packed_edits_agree_with_nnterp(subject: Subject, nnterp: dict[str, Reading]) -> None:
    _assert_agree(_packed(subject), nnterp[subject.name.removeprefix("tiny-")])


# --- Llama, block by block ------------------------------------------------------------------------


@torch.no_grad()
def _walk(subject: Subject, row: tuple[int, ...], then: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Logits [P, V], with then(block, residual) in place of what each block says."""
    model, places = subject.causal_lm.model, torch.arange(len(row))[None]
    later = places[0][None, :] > places[0][:, None]
    mask = torch.zeros(len(row), len(row)).masked_fill(later, -torch.inf)[None, None]
    resid = model.embed_tokens(torch.tensor([row]))
    turns = model.rotary_emb(resid, places)
    for block, layer in enumerate(model.layers):
        said = layer(resid, attention_mask=mask, position_ids=places, position_embeddings=turns)
        resid = then(block, said)
    logits: Tensor = subject.causal_lm.lm_head(model.norm(resid))[0]
    return logits


def _walked(subject: Subject, row: tuple[int, ...]) -> list[Tensor]:
    """What each block says [1, P, D]."""
    seen: list[Tensor] = []

    def note(_block: int, resid: Tensor) -> Tensor:
        seen.append(resid)
        return resid

    _walk(subject, row, note)
    return seen


def _by_hand(subject: Subject) -> Reading:
    donor = _walked(subject, DONOR)

    def logits(changes: tuple[Change, ...]) -> Array:
        def then(block: int, resid: Tensor) -> Tensor:
            for change in changes:
                if change.block == block:
                    resid = _changed(resid, change, donor[block])
            return resid

        array: Array = _walk(subject, ROW, then)[-1].numpy()
        return array

    return {name: logits(changes) for name, changes in CHANGES.items()}


def test_residuals_and_lens_agree_with_blocks_run_by_hand(llama: Subject) -> None:
    theirs, ours = _walked(llama, ROW), _residuals(llama, ROW)
    model = llama.causal_lm.model
    with torch.no_grad():
        for block in BLOCKS:
            torch.testing.assert_close(ours[block], theirs[block], atol=CLOSE, rtol=0)
            lens = model.norm(theirs[block]) @ llama.causal_lm.lm_head.weight.T
            torch.testing.assert_close(readout(llama, ours[block]), lens, atol=CLOSE, rtol=0)


def test_packed_edits_agree_with_blocks_run_by_hand(llama: Subject) -> None:
    _assert_agree(_packed(llama), _by_hand(llama))


def test_outcomes_are_those_of_the_logits_by_hand(llama: Subject) -> None:
    stops = list(llama.stop_ids)
    push = 20 * llama.causal_lm.lm_head.weight[stops[0]]
    prompts = prepare(llama, [ROW], [START])
    found = outcomes(llama, prompts, [[], [Edit(2, "add", push, -1)]])[:, 0]
    for by, (log_odds, halts) in zip((0, push), found, strict=True):
        logits = _walk(llama, ROW, partial(_plus_last, by))[-1]
        p = float(logits.double().softmax(-1)[stops].sum())
        assert log_odds == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
        assert halts == (int(logits.argmax()) in stops)
    assert found[:, 1].tolist() == [0, 1]


def _plus_last(push: Tensor | float, block: int, resid: Tensor) -> Tensor:
    return resid + push if block == BLOCKS[-1] else resid
