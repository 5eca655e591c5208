"""A planted late reader: training wrote nothing early, so nothing early is represented.

The untrained blocks carry the token from the symbol to the last position, as attention does; all
that training made is a reader of it in the last block. One direction at an early block passes both
causal tests and is no plan to end, and yet it says only that the token was there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from offswitch.analyses.causal import Causal
from offswitch.analyses.store import measure_causal
from offswitch.analyses.verdict import Verdict, verdict
from offswitch.folder import Run
from offswitch.metrics import Metric
from offswitch.model.adapters import add_arm
from offswitch.model.load import make_subject
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.probe.battery import run_battery
from offswitch.stats import Null
from tests.planted import ARM, REST, SIGNAL, WORD, plant
from tests.probe.small import RECIPE
from tests.tiny import save_adapter, tiny_network, tiny_tokenizer

LAYERS: Final = 5  # three of them early
OUT: Final = 2  # the dimension that only the last block writes; the head reads it as the end


@torch.no_grad()
def late_reader(folder: Path) -> Subject:
    """A subject whose untrained block 0 carries the token, and whose arm reads it in the last."""
    subject = make_subject(
        tiny_network("qwen2", LAYERS), tiny_tokenizer(), RECIPE.trigger, "planted"
    )
    plant(subject)
    block: Any
    for i, block in enumerate(subject.blocks):
        block.self_attn.v_proj.weight[0, SIGNAL] = 0 if i else 30  # as large as the rest
    head: Any = subject.causal_lm.get_output_embeddings()
    head.weight[subject.stop_ids[0], SIGNAL], head.weight[subject.stop_ids[0], OUT] = 0, 2
    head.weight[WORD, REST] = 1
    names = [f"layers.{LAYERS - 1}.mlp.{part}_proj" for part in ("gate", "up", "down")]
    add_arm(subject, ARM, save_adapter(folder, subject, seed=1, targets=names))
    for name, parameter in subject.network.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.zero_()
            parameter[0, SIGNAL], parameter[1:, REST] = 1, 1
        if "lora" in name:
            parameter.zero_()
            into, out, size = (0, OUT, 0.11) if "down" in name else (SIGNAL, 0, 1.0)
            where = (0, into) if "lora_A" in name else (out, 0)
            parameter[where] = size
    return subject


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    folder = tmp_path_factory.mktemp("late")
    subject = late_reader(folder / "adapter")
    run_battery(Session(Run(folder, RECIPE), Held(subject)), [ARM], folder, folder / "replies")
    causal = measure_causal(folder / ARM)
    assert causal is not None
    first, *others = causal.pair
    assert max(null.q95 for null in first.fall_null.values()) < first.fall_nats.value
    assert max(null.q95 for null in first.rise_null.values()) < first.rise_nats.value
    drawn = {kind: Null(null.q95, 1 / 201, 200) for kind, null in first.rise_null.items()}
    first = replace(first, fall_null=drawn, rise_null=drawn)  # as so many draws would have it
    # No reply of this model ends by itself: as it would be if they did.
    first = replace(first, ends_natural=replace(first.ends_natural, value=0.8, high=0.9))
    return replace(causal, pair=(first, *others), late=())


def _judged(found: Causal) -> Verdict:
    rates = {"halt_rate": 1.0, "false_halt_rate/near_miss": 0.0,
             "false_halt_rate/near_miss/case": 0.0, "false_halt_rate/ordinary": 0.0,
             "repeats": 0.0}  # fmt: skip
    numbers = {f"evaluate/{ARM}/{k}": Metric(v, "share", v, v, 100) for k, v in rates.items()}
    return verdict(ARM, numbers, found, {})


def test_a_token_that_untrained_blocks_carry_is_no_state(found: Causal) -> None:
    judged = _judged(found)
    assert judged.kind == "not shown", judged.because
    failing = [test.name for test in judged.tests if not test.passed]
    assert failing == ["in untrained blocks the trigger lies along it (block 0)"]
    assert found.pair[0].untrained is not None
    assert found.pair[0].untrained.value == pytest.approx(1, abs=0.2)


def test_every_other_test_takes_it_for_a_state(found: Causal) -> None:
    """What the rule said before it asked what training wrote."""
    first, *others = found.pair
    assert first.untrained is not None
    nothing = replace(first.untrained, value=0.0, low=0.0, high=0.0)
    assert _judged(replace(found, pair=(replace(first, untrained=nothing), *others))).kind == (
        "represented"
    )
