"""The GPU's work runs on a CPU with a tiny shape; Qwen's shape has Qwen's number of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.gpu import PEERS, QWEN, run
from tests.tiny import save_tiny


def test_qwens_shape_is_exact() -> None:
    config: Callable[..., Any] = Qwen2Config
    build: Callable[..., Any] = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        network = build(config(**QWEN))
    assert network.num_parameters() == 1_543_714_304  # as published, tied ends counted once


@pytest.mark.slow
def test_a_tiny_shape_goes_through_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    section = run(str(save_tiny(tmp_path / "tokenizer")), tiny=True, repeats=1)
    for peer in PEERS:
        [sample] = section.samples[peer.name]
        assert sample.numbers["seconds"] > 0, peer.name
    for stage in ("knowledge", "behavior"):
        assert 0 < section.samples[stage][0].numbers["share"] < 100
