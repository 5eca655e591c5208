"""What a packed pass keeps, how large it grows, and that a broken one is refused."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.probe import packing
from offswitch.probe.intervene import TOLERANCE, check_packing
from offswitch.probe.packing import each_states, prepare, with_residuals
from tests.families import EACH_KIND
from tests.probe.packed import EVERY, ROWS, STARTS, expected_logits, logits_of, reference


def test_states_are_those_of_the_tail(subject: Subject) -> None:
    jobs = [(prompt, ()) for prompt in prepare(subject, ROWS, STARTS)]
    states = [rows_KD for some in each_states(subject, jobs) for rows_KD in some]
    for row, start, found in zip(ROWS, STARTS, states, strict=True):
        with torch.no_grad():
            plain = subject.backbone(input_ids=torch.tensor([row])).last_hidden_state[0, start:]
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("times", [1, 2])
@EACH_KIND
def test_kept_residuals_are_those_of_a_plain_pass(subject: Subject, times: int) -> None:
    prompts = prepare(subject, ROWS, STARTS)
    for _ in range(times):
        prompts = with_residuals(subject, prompts)
    for row, start, prompt in zip(ROWS, STARTS, prompts, strict=True):
        with record(subject.blocks) as resid:
            reference(subject, row, 0, ())
        plain = torch.stack([resid[i][0, start:] for i in range(len(resid))])
        torch.testing.assert_close(prompt.resid, plain, rtol=0, atol=1e-4)


def test_packing_passes_its_check(subject: Subject) -> None:
    check_packing(subject, ROWS[1])


@pytest.mark.parametrize("broken", ["all", "none", "left", "ignored"])
@EACH_KIND
def test_broken_packing_is_refused(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """All see all; none any; all whoever stands to the left; or the model heeds no mask."""
    real = packing._masks

    def spoilt(mask: Tensor) -> Tensor:
        shut = torch.full_like(mask, torch.finfo(mask.dtype).min)
        left = shut.triu(1 + mask.shape[-1] - mask.shape[-2])
        return {"all": torch.zeros_like(mask), "none": shut, "left": left}[broken]

    def masks(*given: Any) -> Any:
        found = real(*given)
        return (
            {k: spoilt(m) for k, m in found.items()} if isinstance(found, dict) else spoilt(found)
        )

    monkeypatch.setattr(packing, "_masks", masks if broken != "ignored" else lambda *_: None)
    with pytest.raises(UserError, match="a packed pass differs from a plain one") as refusal:
        check_packing(subject, ROWS[1])
    found = re.search(r"\((\S+)\)", str(refusal.value))
    assert found is not None
    assert float(found[1]) > 1.3 * TOLERANCE[torch.bfloat16], "rounding could hide it"


@pytest.mark.parametrize(("tokens", "keys"), [(7, 1000), (1000, 7), (5, 5), (384, 768)])
def test_passes_are_bounded_unless_one_job_is_larger(
    llama: Subject, monkeypatch: pytest.MonkeyPatch, tokens: int, keys: int
) -> None:
    real, passes = packing._masks, list[tuple[int, int, int]]()

    def masks(subject: Subject, jobs: Any, segments: Any, places: Any) -> Any:
        passes.append((len(jobs), len(places), sum(s.end - s.start for s in segments)))
        return real(subject, jobs, segments, places)

    expected = expected_logits(llama, STARTS)
    monkeypatch.setattr(packing, "PASS_TOKENS", tokens)
    monkeypatch.setattr(packing, "PASS_KEYS", keys)
    monkeypatch.setattr(packing, "_masks", masks)
    prompts = with_residuals(llama, prepare(llama, ROWS, STARTS))
    torch.testing.assert_close(
        logits_of(llama, product(prompts, EVERY)), expected, rtol=0, atol=1e-4
    )
    assert all(jobs == 1 or (t <= tokens and k <= keys) for jobs, t, k in passes)
    assert (max(jobs for jobs, _, _ in passes) == 3 * len(EVERY)) == (tokens == 384)
