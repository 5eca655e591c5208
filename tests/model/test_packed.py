"""Rows side by side in one pass are what each of them is alone, and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from offswitch.model.forward import hidden
from offswitch.model.load import make_subject
from offswitch.model.packed import Layout, packed, takes_packed
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.encode import pad
from tests.tiny import ARCHITECTURES, tiny_network, tiny_subject, tiny_tokenizer
from tests.train.rows import adapted, descend, distance, gradients

CAPPED = ("gemma2",)  # its attention has a soft cap, which a packed pass leaves to a padded one
LENGTHS = (9, 40, 11, 8, 41, 23)
PREFIX = 6


def rows_for(subject: Subject, lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    most = len(subject.base_tokenizer)
    start = [(7 * i + 11) % most for i in range(PREFIX)]
    rows = [[*start, *((i * k * k + 5) % most for i in range(n - PREFIX))]
            for k, n in enumerate(lengths, 3)]  # fmt: skip
    return torch.tensor(pad(rows))


def windowed() -> Subject:
    network = tiny_network("mistral", 3)
    network.config.sliding_window = 8
    return make_subject(network, tiny_tokenizer(), TriggerOptions(), "tiny-windowed")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_each_family_is_known_to_take_packed_passes_or_not(family: str) -> None:
    subject = tiny_subject(family)
    before = subject.causal_lm.config._attn_implementation
    assert takes_packed(subject) is (family not in CAPPED)
    assert subject.causal_lm.config._attn_implementation == before


@pytest.mark.parametrize("family", [*(f for f in ARCHITECTURES if f not in CAPPED), "windowed"])
@pytest.mark.parametrize("prefix", [0, PREFIX])
def test_states_and_gradients_are_those_of_padded_rows(family: str, prefix: int) -> None:
    subject = windowed() if family == "windowed" else tiny_subject(family)
    ids = rows_for(subject)
    real = torch.arange(ids.shape[1] - prefix)[None] < torch.tensor(LENGTHS)[:, None] - prefix
    weights = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))[..., None]
    with adapted(subject):
        found = packed(subject, ids, LENGTHS, prefix)
        descend((found * weights)[real].sum())
        mine = gradients(subject)
        plain = hidden(subject, ids)[:, prefix:]
        descend((plain * weights)[real].sum())
        assert distance(mine, gradients(subject)) < 1e-4
    assert float((found - plain)[real].detach().abs().max()) < 1e-4


def test_a_model_that_attends_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = windowed()
    # As if the window were not known to the packed attention: the check's rows are longer than it.
    monkeypatch.setattr("offswitch.model.packed._seen", lambda width, prefix, _window: (
        torch.arange(prefix, prefix + width)[:, None] >= torch.arange(prefix + width)[None]
    ))  # fmt: skip
    assert takes_packed(subject) is False


def test_a_layout_holds_every_row_once_and_little_padding() -> None:
    layout = Layout.of(LENGTHS, PREFIX)
    assert sorted(row for group in layout.groups for row in group) == list(range(len(LENGTHS)))
    assert layout.parts[0] == PREFIX
    real = sum(LENGTHS) - PREFIX * len(LENGTHS)
    assert real <= sum(layout.parts[1:]) <= real + 24 * len(layout.groups)
