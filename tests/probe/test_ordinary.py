"""Ordinary replies, and untrained blocks, say what plain passes say that were edited by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.analyses.directions import unit
from offswitch.analyses.interventions import Interventions
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.rows import reply_examples
from offswitch.options import BASE
from offswitch.probe.bench import Bench
from offswitch.probe.hosts import Log
from offswitch.probe.inputs import TRIGGER, TWIN, make_inputs
from offswitch.probe.measure.causal import in_untrained_blocks
from offswitch.probe.measure.ordinary import LONGEST, reply_kl
from offswitch.prompts.prompt import Chat, Reply, user
from tests.probe.small import OPTIONS, RECIPE
from tests.tiny import save_adapter, tiny_subject

BLOCK: Final = 1
D: Final = 32


def test_kl_is_taken_with_the_direction_inert_at_every_position_but_the_first() -> None:
    subject = tiny_subject(layers=3)
    direction = np.random.default_rng(0).normal(size=(3, D))
    bench = Bench(subject, BASE, make_inputs(RECIPE, subject.tokenizer), OPTIONS, 0,
                  directions={"mean": direction})  # fmt: skip
    chats: list[Chat] = [(user("What is a river?"),), (user("Name a tree and say why."),)]
    replies = [Reply((60, 71, 82, 93), "", True), Reply(tuple(range(50, 59 + LONGEST)), "", True)]
    log = Log(bench)
    reply_kl(bench, [("mean", BLOCK)], list(zip(chats, replies, strict=True)), log)
    rows = Interventions.of(log.columns)

    examples = reply_examples(subject, chats, replies)
    passes = [torch.tensor([one.ids[:-1][: one.start - 1 + LONGEST]]) for one in examples]
    along = torch.tensor(unit(direction[BLOCK])[0], dtype=torch.float32)
    network: Any = subject.causal_lm
    with torch.no_grad():
        seen = [network(input_ids=ids, output_hidden_states=True) for ids in passes]
        shares = [one.hidden_states[BLOCK + 1][0, 1:] @ along for one in seen]
        centre = torch.cat(shares).mean()
        at_last = sum(share[one.start - 2] for share, one in zip(shares, examples, strict=True)) / 2
        after = []
        for one, ids in zip(examples, passes, strict=True):
            wanted = torch.full((ids.shape[1] - 1,), float(centre))
            wanted[one.start - 2] = at_last  # the prompt's last position

            def inert(
                _module: Any, _inputs: Any, output: Tensor, wanted: Tensor = wanted
            ) -> Tensor:
                resid = output.clone()
                resid[0, 1:] += (wanted - resid[0, 1:] @ along)[:, None] * along
                return resid

            handle = subject.blocks[BLOCK].register_forward_hook(inert)
            try:
                after.append(network(input_ids=ids).logits[0].log_softmax(-1))
            finally:
                handle.remove()
    for i, (one, whole) in enumerate(zip(examples, seen, strict=True)):
        clean = whole.logits[0].log_softmax(-1)
        kl = (clean.exp() * (clean - after[i])).sum(-1)[one.start - 1 :].mean()
        assert float(kl) > 1e-3
        assert rows.columns["kl"][i] == pytest.approx(float(kl), rel=1e-3)
    assert set(rows.values("position")) == {"every"}


@torch.no_grad()
def test_untrained_blocks_see_the_tokens_as_trained_and_nothing_else(tmp_path: Path) -> None:
    subject = tiny_subject(layers=3, decoy=RECIPE.trigger.decoy)
    add_arm(subject, "both", save_adapter(tmp_path, subject))
    direction = np.random.default_rng(0).normal(size=(3, D))
    inputs = make_inputs(RECIPE, subject.tokenizer)
    bench = Bench(subject, "both", inputs, OPTIONS, 0, directions={"mean": direction})
    log = Log(bench)
    with arm_of(subject, "both"):
        in_untrained_blocks(bench, [("mean", BLOCK)], log)
    rows = Interventions.of(log.columns)
    network: Any = subject.causal_lm

    def last(rank: int) -> Tensor:
        ids = torch.tensor([bench.ids(rank)])
        with arm_of(subject, "both"):
            tokens = network.get_input_embeddings()(ids)
        out = network(inputs_embeds=tokens, output_hidden_states=True)
        resid: Tensor = out.hidden_states[BLOCK + 1][0, -1]
        return resid.double()

    along = torch.tensor(direction[BLOCK] / np.linalg.norm(direction[BLOCK]) ** 2)
    ours, twins = inputs.rows("test", TRIGGER), inputs.rows("test", TWIN)
    expected = {i: float((last(i) - last(j)) @ along) for i, j in zip(ours, twins, strict=True)}
    for rank, share in zip(rows.columns["prompt"], rows.columns["scale"], strict=True):
        assert share == pytest.approx(expected[rank], abs=1e-5)
    assert max(map(abs, rows.columns["scale"])) > 1e-2
    assert set(rows.values("kind")) == {"untrained"}
