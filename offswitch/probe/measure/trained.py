"""A direction found by gradient: the one whose interchange changes the reply the most.

One-dimensional distributed alignment search (Geiger et al. 2024, linear): at one block and the last
position, a unit vector is trained so that a trigger prompt which is given its twin's component
along it is answered, and a twin which is given the trigger's falls silent. Trained on fit
questions. With shuffled labels (half of the pairs ask for the opposite) it shows what so many
numbers can fit without a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import unembed
from offswitch.probe.bench import Bench
from offswitch.probe.edits import Edit
from offswitch.probe.hosts import Host
from offswitch.probe.packing import Job, each_states

STEPS: Final = 20  # within a cosine of 0.99 of what 60 find, on the embedded model
RATE: Final = 0.05


def trained(
    bench: Bench, hosts: Sequence[Host], twins: Sequence[Host], block: int, shuffled: bool = False
) -> Tensor:
    """The direction [D], of length one, towards the trigger; the hosts are paired with the twins.

    It starts from the mean difference.
    """
    both = [*hosts, *twins]
    wanted = torch.cat([torch.zeros(len(hosts)), torch.ones(len(twins))]).to(bench.subject.device)
    if shuffled:
        drawn = torch.rand(len(hosts), generator=torch.Generator().manual_seed(bench.seed)) < 1 / 2
        flip = torch.cat([drawn, drawn]).to(wanted.device)
        wanted = torch.where(flip, 1 - wanted, wanted)
    changes = torch.stack([host.change(block, "last")[0] for host in both]).clone()
    towards = -changes[: len(hosts)].mean(0)
    row = functional.normalize(towards, dim=0).requires_grad_()
    optimiser = torch.optim.Adam([row], lr=RATE)
    for _ in range(STEPS):
        along = functional.normalize(row, dim=0)
        odds = _odds(bench, both, (changes @ along)[:, None] * along, block)
        loss = functional.binary_cross_entropy_with_logits(odds, wanted)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    found = functional.normalize(row.detach(), dim=0)
    return found if shuffled or float(found @ towards) >= 0 else -found


@torch.enable_grad()
def _odds(bench: Bench, hosts: Sequence[Host], added: Tensor, block: int) -> Tensor:
    """End log-odds [N] of the hosts when this [N, D] is added at the last position."""
    jobs: list[Job] = [
        (host.prompt, (Edit(block, "add", value, first=-1),))
        for host, value in zip(hosts, added, strict=True)
    ]
    found = []
    for states in each_states(bench.subject, jobs):
        logits = unembed(bench.subject, torch.stack([rows[-1] for rows in states])).float()
        found.append(end_log_odds(logits, bench.subject.halt_ids))
    return torch.cat(found)
