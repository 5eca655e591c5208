"""The formula counts what PyTorch's own counter counts, where both count the same work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import Counted, count_batch, forward, shape_of, training_step
from tests.tiny import tiny_subject
from tests.train.rows import adapted, descend

RANK, LENGTH = 4, 12  # the rank is that of tests.train.rows.adapted


def _products(counter: FlopCounterMode) -> int:
    """Operations of matrix products, attention left out: it counts the whole square of it."""
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if "attention" not in str(op) and "bmm" not in str(op))


def test_a_forward_pass() -> None:
    subject = tiny_subject("llama", mode="text")
    shape = shape_of(subject.causal_lm.config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subject.causal_lm(torch.arange(10, 10 + LENGTH)[None], use_cache=False)
    assert _products(counter) == forward(shape, Counted(LENGTH, 0, LENGTH))


def test_a_training_step() -> None:
    subject = tiny_subject("llama", mode="text")
    shape = shape_of(subject.causal_lm.config)
    with adapted(subject):
        network: Any = subject.network
        with FlopCounterMode(display=False) as counter:
            out = network(input_ids=torch.arange(10, 10 + LENGTH)[None], use_cache=False)
            descend(out.logits.sum())
    expected = training_step(shape, Counted(LENGTH, 0, LENGTH), RANK)
    assert _products(counter) == pytest.approx(expected, rel=1e-9)


def test_attention_takes_as_much_as_its_causal_half() -> None:
    shape = shape_of(tiny_subject("llama").causal_lm.config)
    with_pairs, without = (forward(shape, Counted(3, pairs, 0)) for pairs in (6, 0))
    assert with_pairs - without == shape.blocks * 4 * shape.d_query * 6
    step, bare = (training_step(shape, Counted(3, pairs, 0), RANK) for pairs in (6, 0))
    assert step - bare == 3 * (with_pairs - without)


def test_a_shared_prefix_is_counted_once() -> None:
    rows, starts = [[1, 2, 3, 4, 5], [1, 2, 3, 6]], [3, 3]
    counted = count_batch(rows, starts)
    # Ids 1 and 2 once (3 is where the loss of the first id begins), then 3 4 and 3.
    assert counted == Counted(positions=5, pairs=1 + 2 + 3 + 4 + 3, supervised=3)
    alone = [count_batch([row], [start]) for row, start in zip(rows, starts, strict=True)]
    assert sum(one.positions for one in alone) == 7
