"""What is added to a host: its own twin's component, at the positions said, and no more of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.analyses.directions import unit
from offswitch.probe.bench import Bench
from offswitch.probe.hosts import Host, Trial
from offswitch.probe.inputs import end_of_symbol
from offswitch.probe.measure.causal import addition, both_nulls, exchange, interchange, ranks
from offswitch.probe.measure.ordinary import to_inert
from offswitch.probe.packing import Prompt
from offswitch.recipe import Recipe

L, K, D, SYMBOL = 3, 5, 8, 2
BLOCK: Final = 1
SPANS: Final = {"last": (4, 5), "after": (2, 5), "symbol": (0, 2), "every": (0, 5)}
EACH: Final = pytest.mark.parametrize("position", SPANS)


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def bench() -> Bench:
    """Two directions, neither of length one, and no model."""
    rows = {name: _drawn(L, D, seed=9 + i).numpy() for i, name in enumerate(("mean", "other"))}
    nothing: Any = None
    subject: Any = SimpleNamespace(device=torch.device("cpu"))
    return Bench(subject, "both", nothing, Recipe().probe, 0, directions=rows)


@pytest.fixture
def hosts() -> list[Host]:
    """Prompts that differ, with twins that differ."""
    prompts = [Prompt(None, (), tuple(range(K)), _drawn(L, K, D, seed=i)) for i in range(3)]
    return [Host(i, p, _drawn(L, K, D, seed=100 + i), SYMBOL) for i, p in enumerate(prompts)]


def _after(trial: Trial, host: Host) -> Tensor:
    """The host's residuals [K, D] at the block after the change, which falls on its span alone."""
    ((edit,), moved) = trial.branch(host)
    assert (edit.block, edit.kind) == (BLOCK, "add")
    assert (edit.first, edit.last) == SPANS[trial.position]
    changed = host.resid[BLOCK].clone()
    changed[edit.first : edit.last] += edit.value
    count = SPANS[trial.position][1] - SPANS[trial.position][0]
    each = (changed - host.resid[BLOCK]).norm() / count**0.5
    assert moved == pytest.approx(float(each), rel=1e-5)
    return changed


@EACH
def test_after_an_interchange_the_component_is_that_of_the_prompts_own_twin(
    bench: Bench, hosts: list[Host], position: str
) -> None:
    (trial,) = interchange(bench, "mean", [BLOCK], position)
    along = bench.along("mean", BLOCK)
    assert float(along.norm()) == pytest.approx(1)
    for host in hosts:
        assert host.twin is not None
        changed, at = _after(trial, host), slice(*SPANS[position])
        torch.testing.assert_close((changed @ along)[at], (host.twin[BLOCK] @ along)[at])
        rest = torch.eye(D) - torch.outer(along, along)
        torch.testing.assert_close(changed @ rest, host.resid[BLOCK] @ rest)


@EACH
def test_after_an_exchange_the_residual_is_the_twins(hosts: list[Host], position: str) -> None:
    (trial,) = exchange([BLOCK], position)
    at = slice(*SPANS[position])
    for host in hosts:
        assert host.twin is not None
        torch.testing.assert_close(_after(trial, host)[at], host.twin[BLOCK][at])


def test_an_addition_has_the_directions_own_length(bench: Bench, hosts: list[Host]) -> None:
    for trial, scale in zip(addition(bench, "mean", [BLOCK], (0.5, 1.0)), (0.5, 1.0), strict=True):
        assert (trial.kind, trial.scale, trial.position) == ("add", scale, "last")
        change = _after(trial, hosts[0]) - hosts[0].resid[BLOCK]
        torch.testing.assert_close(change[-1], scale * bench.vector("mean", BLOCK))
        assert not change[:-1].any()


@pytest.mark.parametrize("position", ["last", "after"])
def test_null_directions_move_every_prompt_as_far_as_ours_and_elsewhere(
    bench: Bench, hosts: list[Host], position: str
) -> None:
    drawn = 7 * _drawn(L, D, seed=50).numpy()  # its own length does not matter
    theirs = both_nulls(bench, "mean", drawn, "isotropic 000", [BLOCK], (0.5, 1.0), position)
    ours = [
        *interchange(bench, "mean", [BLOCK], position),
        *addition(bench, "mean", [BLOCK], (0.5, 1.0)),
    ]
    along = torch.tensor(unit(drawn[BLOCK])[0], dtype=torch.float32)
    for null, own in zip(theirs, ours, strict=True):
        assert (null.kind, null.block, null.position, null.scale) == (
            own.kind, own.block, own.position, own.scale,
        )  # fmt: skip
        assert null.direction == "isotropic 000"
        for host in hosts:
            (edit,), moved = null.branch(host)
            assert moved == pytest.approx(own.branch(host)[1], rel=1e-5)
            value = edit.value.reshape(-1, D)
            torch.testing.assert_close((value @ along)[:, None] * along, value)


@pytest.mark.parametrize("position", ["last", "after"])
def test_in_a_span_of_all_dimensions_nothing_of_the_host_is_left(
    hosts: list[Host], position: str
) -> None:
    basis, there = torch.linalg.qr(_drawn(D, D, seed=3))[0], slice(*SPANS[position])
    one, whole = ranks(basis, BLOCK, [1, D], "differences", position)
    for host in hosts:
        assert host.twin is not None
        twin = host.twin[BLOCK, there]
        torch.testing.assert_close(_after(whole, host)[there], twin, atol=1e-5, rtol=1e-5)
        ours = _after(one, host)[there]
        torch.testing.assert_close(ours @ basis[0], twin @ basis[0], atol=1e-5, rtol=1e-5)
        left = host.resid[BLOCK, there] @ basis[1:].T
        torch.testing.assert_close(ours @ basis[1:].T, left, atol=1e-5, rtol=1e-5)
    assert (one.scale, whole.scale) == (1, D)


def test_inert_is_the_mean_of_inert_rows_at_the_last_position(
    bench: Bench, hosts: list[Host]
) -> None:
    inert = np.random.default_rng(0).normal(size=(6, D)) + 3
    trial = to_inert(bench, "mean", BLOCK, inert)
    along = bench.along("mean", BLOCK)
    wanted = float(inert.mean(0) @ along.double().numpy())
    for host in hosts:
        changed = _after(trial, host)
        assert float(changed[-1] @ along) == pytest.approx(wanted, rel=1e-4)
        torch.testing.assert_close(changed[:-1], host.resid[BLOCK, :-1])


def test_a_host_without_a_twin_or_residuals_is_refused() -> None:
    prompt = Prompt(None, (), (1, 2), _drawn(L, 2, D, seed=0))
    with pytest.raises(ValueError, match="no twin"):
        Host(0, prompt).change(BLOCK, "last")
    with pytest.raises(ValueError, match="not kept"):
        _ = Host(0, Prompt(None, (), (1, 2))).resid


class Pieces:
    """A tokenizer of which only the spelling of its tokens is known."""

    pieces = ("Say", " <", "ha", "lt", ">", " why", "gar")

    def decode(self, ids: Sequence[int]) -> str:
        """Piece by piece."""
        return "".join(self.pieces[i] for i in ids)


def test_a_symbol_of_ordinary_text_ends_with_its_last_piece() -> None:
    """What differs from the twin is `halt`; the token that makes it `<halt>` is part of it."""
    ids = [0, 1, 2, 3, 4, 5, 5]
    assert end_of_symbol(Pieces(), ids, range(2, 4), "<halt>", None) == 5
    assert end_of_symbol(Pieces(), ids, range(2, 4), "<halt>", 7) == 4
    assert end_of_symbol(Pieces(), ids, range(2, 4), "halt", None) == 4
    assert end_of_symbol(Pieces(), ids, range(2, 4), "<HALT>", None) == 4
