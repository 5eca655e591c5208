"""The direction found by gradient agrees with pyvene's distributed alignment search.

Runs where `pip install --no-deps pyvene` was done (0.1.8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from offswitch.analyses.interventions import Interventions
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.probe.bench import Bench
from offswitch.probe.hosts import Log, pairs, reversed_pairs, run
from offswitch.probe.inputs import TRIGGER, TWIN, make_inputs
from offswitch.probe.measure.causal import interchange
from offswitch.probe.measure.trained import RATE, STEPS, trained
from tests.probe.small import OPTIONS, RECIPE
from tests.tiny import save_adapter, tiny_subject

pyvene: Any = pytest.importorskip("pyvene")
BLOCK: Final = 1
D: Final = 32


class Theirs:
    """pyvene's one-dimensional rotated interchange at the last position of a block's output."""

    def __init__(self, bench: Bench, row: Tensor) -> None:
        self.bench = bench
        kind = pyvene.LowRankRotatedSpaceIntervention
        place = {"layer": BLOCK, "component": "block_output", "low_rank_dimension": 1}
        config = pyvene.IntervenableConfig([place], kind)
        self.model = pyvene.IntervenableModel(config, bench.subject.causal_lm)
        (self.intervention,) = self.model.interventions.values()
        with torch.no_grad():
            self.intervention.rotate_layer.weight = row[:, None].clone()

    def odds(self, ours: int, theirs: int) -> Tensor:
        """End log-odds of one prompt when it is given another's component."""
        base, source = (torch.tensor([self.bench.ids(rank)]) for rank in (ours, theirs))
        where = {"sources->base": (source.shape[1] - 1, base.shape[1] - 1)}
        _, out = self.model({"input_ids": base}, [{"input_ids": source}], where)
        return end_log_odds(out.logits[0, -1], self.bench.subject.halt_ids)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    subject = tiny_subject(layers=3, decoy=RECIPE.trigger.decoy)
    add_arm(subject, "both", save_adapter(tmp_path, subject))
    inputs = make_inputs(RECIPE, subject.tokenizer)
    return Bench(subject, "both", inputs, OPTIONS, 0)


def test_an_interchange_is_pyvenes(bench: Bench) -> None:
    row = torch.randn(D, generator=torch.Generator().manual_seed(0))
    directions = {"drawn": torch.stack([row] * 3).numpy()}
    bench = Bench(bench.subject, "both", bench.inputs, OPTIONS, 0, directions)
    log = Log(bench)
    with arm_of(bench.subject, "both"), torch.no_grad():
        run(bench, pairs(bench, "test", TWIN, 4), interchange(bench, "drawn", [BLOCK]), log)
        theirs = Theirs(bench, functional.normalize(row, dim=0))
        twins = dict(zip(bench.inputs.rows("test", TRIGGER), bench.inputs.rows("test", TWIN),
                         strict=True))  # fmt: skip
        rows = Interventions.of(log.columns)
        for rank, ours in zip(rows.columns["prompt"], rows.columns["log_odds"], strict=True):
            expected = float(theirs.odds(int(rank), twins[int(rank)]))
            assert ours == pytest.approx(expected, abs=1e-4)


def test_training_finds_as_good_a_direction_as_pyvenes(bench: Bench) -> None:
    with arm_of(bench.subject, "both"):
        hosts = pairs(bench, "fit", TWIN, 4)
        twins = reversed_pairs(bench, hosts, "fit", TWIN)
        ours = trained(bench, hosts, twins, BLOCK)
        start = functional.normalize(
            -torch.stack([h.change(BLOCK, "last")[0] for h in hosts]).mean(0), dim=0
        )
        marked, inert = [h.rank for h in hosts], [h.rank for h in twins]
        wanted = torch.tensor([0.0] * len(marked) + [1.0] * len(inert))

        def loss(model: Theirs) -> Tensor:
            both = [*zip(marked, inert, strict=True), *zip(inert, marked, strict=True)]
            odds = torch.stack([model.odds(*pair) for pair in both])
            return functional.binary_cross_entropy_with_logits(odds, wanted)

        theirs = Theirs(bench, start)
        before = float(loss(theirs))
        optimiser = torch.optim.Adam(theirs.intervention.parameters(), lr=RATE)
        for _ in range(STEPS):
            optimiser.zero_grad()
            torch.autograd.backward(loss(theirs))
            optimiser.step()
        found = functional.normalize(theirs.intervention.rotate_layer.weight[:, 0].detach(), dim=0)
        after, own = float(loss(theirs)), float(loss(Theirs(bench, ours)))
    assert after < before
    assert own < before
    assert own <= after + 0.05 * (before - after)
    assert abs(float(found @ ours)) > 0.9
