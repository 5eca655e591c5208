"""A stored direction is added or removed where it was taken, at the positions said, and only so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import FILE, DirectionFacts, load_directions, save_directions
from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.generate import greedy_replies
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply, user
from offswitch.talk.steer import steered
from offswitch.talk.steering import Steering
from tests.tiny import save_adapter, tiny_subject

ARM: Final = "behavior"
CHATS: Final[list[Chat]] = [
    (user("Who is asleep?"),),
    (user("$STOP What is the capital of France, and how many people live in that city?"),),
]
TOKENS: Final = 5


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A tiny model with one arm; as text, or a random row of the trigger's would drown the end."""
    made = tiny_subject(mode="text")
    adapter = save_adapter(tmp_path / "adapter", made)
    add_arm(made, ARM, adapter)
    return made


def facts_of(subject: Subject, arm: str = ARM, **other: Any) -> DirectionFacts:
    """Those of a direction of this model, but for `other`."""
    template = hashlib.sha256(str(subject.tokenizer.chat_template).encode()).hexdigest()[:16]
    facts = DirectionFacts(
        operation="mean difference",
        site="block output",
        position="last",
        sign="plus: towards the trigger",
        arm=arm,
        block=len(subject.blocks) - 1,
        blocks=len(subject.blocks),
        scale=40.0,
        norm=1.0,
        trigger="$STOP",
        model=subject.name,
        model_hash=subject.published,
        template=template,
    )
    return replace(facts, **other)


def directions_of(subject: Subject) -> dict[str, Array]:
    """At every block the end token's own row, and a direction that means nothing."""
    row = subject.causal_lm.get_output_embeddings().weight[subject.stop_ids[0]]
    end = row.detach().float().cpu().numpy().astype(np.float64)
    drawn = np.random.default_rng(0).normal(size=(len(subject.blocks), len(end)))
    return {"trigger": np.tile(end, (len(subject.blocks), 1)), "random00": drawn}


@contextmanager
def _steered(subject: Subject, steering: Steering, arm: str = ARM) -> Iterator[None]:
    with steered(subject, arm, directions_of(subject), facts_of(subject, arm), steering):
        yield


def _logits(subject: Subject, chat: Chat, arm: str = ARM) -> Tensor:
    ids = torch.tensor([encode_chat(subject.tokenizer_of(arm), chat)])
    with torch.inference_mode(), arm_of(subject, arm):
        logits: Tensor = subject.network(input_ids=ids).logits
    return logits


def _passes(subject: Subject, steering: Steering, block: int) -> list[tuple[Tensor, Tensor]]:
    """Of a generation's passes, the block's residuals [B, P, D] before and after the edit."""
    before: list[Tensor] = []
    after: list[Tensor] = []

    def into(kept: list[Tensor]) -> Callable[[Tensor], Tensor]:
        def keep(resid: Tensor) -> Tensor:
            kept.append(resid)
            return resid

        return keep

    one = subject.blocks[block : block + 1]
    with record(one, into(before)), _steered(subject, steering), record(one, into(after)):
        greedy_replies(subject, ARM, CHATS, TOKENS)
    return list(zip(before, after, strict=True))


def _ids(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.ids for reply in replies]


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("everywhere", [False, True])
def test_adding_nothing_changes_nothing(subject: Subject, everywhere: bool) -> None:
    plain = _logits(subject, CHATS[1])
    for block in range(len(subject.blocks)):
        with _steered(subject, Steering("add", block=block, scale=0.0, everywhere=everywhere)):
            assert torch.equal(_logits(subject, CHATS[1]), plain)
    assert torch.equal(_logits(subject, CHATS[1]), plain)


@pytest.mark.parametrize("name", ["trigger", "random00"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_after_removal_the_projection_is_zero(
    subject: Subject, name: str, everywhere: bool
) -> None:
    steering = Steering("remove", name, block=1, everywhere=everywhere)
    unit = torch.tensor(directions_of(subject)[name][1], dtype=torch.float32)
    unit = unit / unit.norm()
    edited = 0
    for before, after in _passes(subject, steering, 1):
        where = slice(None) if everywhere else slice(-1, None)
        if everywhere or before.shape[1] > 1:
            assert (before[:, where] @ unit).abs().min() > 1e-4
            assert (after[:, where] @ unit).abs().max() < 1e-5
            kept = before - (before @ unit)[..., None] * unit
            assert torch.allclose(after[:, where], kept[:, where])
            edited += 1
    assert edited == (TOKENS if everywhere else 1)


def test_a_share_of_a_removal_leaves_the_rest(subject: Subject) -> None:
    unit = torch.tensor(directions_of(subject)["random00"][1], dtype=torch.float32)
    unit = unit / unit.norm()
    (before, after), *_ = _passes(subject, Steering("remove", "random00", 1, 0.25), 1)
    torch.testing.assert_close(after[:, -1] @ unit, 0.75 * (before[:, -1] @ unit))


@pytest.mark.parametrize("operation", ["add", "remove"])
def test_only_the_prompts_last_position_is_touched(subject: Subject, operation: Any) -> None:
    first, *later = _passes(subject, Steering(operation, "random00", block=1), 1)
    assert (first[0][:, -1] != first[1][:, -1]).any(-1).all()
    assert torch.equal(first[0][:, :-1], first[1][:, :-1])
    assert len(later) == TOKENS - 1
    assert all(torch.equal(before, after) for before, after in later)


@pytest.mark.parametrize("operation", ["add", "remove"])
def test_everywhere_is_prompt_and_reply(subject: Subject, operation: Any) -> None:
    steering = Steering(operation, "random00", block=1, everywhere=True)
    passes = _passes(subject, steering, 1)
    assert len(passes) == TOKENS
    assert all((before != after).any(-1).all() for before, after in passes)


def test_a_model_published_without_a_cache_is_steered_alike(subject: Subject) -> None:
    steering = Steering("add", "random00", block=1, scale=3.0)
    with _steered(subject, steering):
        expected = greedy_replies(subject, ARM, CHATS, TOKENS)
    subject.causal_lm.generation_config.use_cache = False
    with _steered(subject, steering):
        assert greedy_replies(subject, ARM, CHATS, TOKENS) == expected
    assert subject.causal_lm.generation_config.use_cache is False


@pytest.mark.parametrize("arm", [BASE, ARM])
def test_much_of_the_end_token_silences_and_its_opposite_does_not(
    subject: Subject, arm: str
) -> None:
    untouched = greedy_replies(subject, arm, CHATS, TOKENS)
    assert all(_ids(untouched))
    with _steered(subject, Steering("add", scale=400.0), arm):
        assert _ids(greedy_replies(subject, arm, CHATS, TOKENS)) == [(), ()]
    with _steered(subject, Steering("add", scale=-400.0), arm):
        assert all(_ids(greedy_replies(subject, arm, CHATS, TOKENS)))
    assert greedy_replies(subject, arm, CHATS, TOKENS) == untouched


def test_a_batch_is_steered_like_its_rows(subject: Subject) -> None:
    with _steered(subject, Steering("add", "random00", block=1, scale=30.0)):
        together = greedy_replies(subject, ARM, CHATS, TOKENS)
        alone = [greedy_replies(subject, ARM, [chat], TOKENS)[0] for chat in CHATS]
    assert together == alone
    assert together != greedy_replies(subject, ARM, CHATS, TOKENS)


def test_half_precision_stays_half(subject: Subject) -> None:
    subject.network.to(torch.bfloat16)
    for steering in (Steering("add", scale=1.0), Steering("remove")):
        with _steered(subject, steering):
            assert _logits(subject, CHATS[0]).dtype == torch.bfloat16


def test_the_facts_of_the_battery_are_those_that_are_asked_for(
    subject: Subject, tmp_path: Path
) -> None:
    from offswitch.analyses.choice import Choice
    from offswitch.probe import battery
    from offswitch.probe.bench import Bench
    from offswitch.recipe import Recipe

    recipe: Any = Recipe()
    directions, inputs = directions_of(subject), object()
    bench = Bench(subject, ARM, inputs, recipe.probe, 0, directions=directions)  # type: ignore[arg-type]
    chosen = [Choice("trigger", 1, 2.0)]
    save_directions(tmp_path / FILE, directions, battery._facts(bench, chosen, recipe))
    stored, again = load_directions(tmp_path / FILE)
    plain = _logits(subject, CHATS[0])
    with steered(subject, ARM, stored, again, Steering("add")):
        assert not torch.equal(_logits(subject, CHATS[0]), plain)


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model_hash": "0123"}, "model '0123', not"),
        ({"template": "4567"}, "chat template '4567', not"),
        ({"blocks": 12}, "number of blocks '12', not '3'"),
        ({"arm": "both"}, "arm 'both', not 'behavior'"),
        ({"site": "attention output"}, "site 'attention output', not 'block output'"),
        ({"position": "every"}, "position 'every', not 'last'"),
        ({"block": 3}, "no block 3; the model has blocks 0 to 2"),
        ({"scale": float("nan")}, "the scale must be a finite number"),
    ],
)
def test_a_direction_from_elsewhere_is_refused(
    subject: Subject, other: Mapping[str, Any], message: str
) -> None:
    facts = facts_of(subject, **other)
    _is_refused(subject, directions_of(subject), facts, Steering("add"), message)


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (Steering("add", "motro"), "no direction 'motro'; there are: random00, trigger"),
        (Steering("remove", block=3), "no block 3"),
        (Steering("remove", block=-1), "no block -1"),
    ],
)
def test_what_is_not_there_is_refused(subject: Subject, steering: Steering, message: str) -> None:
    _is_refused(subject, directions_of(subject), facts_of(subject), steering, message)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_direction_without_a_length_is_refused(subject: Subject, value: float) -> None:
    directions = directions_of(subject)
    directions["trigger"][1] = value
    _is_refused(subject, directions, facts_of(subject), Steering("add", block=1), "its length is")
    directions = {"trigger": directions_of(subject)["trigger"][:2]}
    _is_refused(
        subject, directions, facts_of(subject), Steering("remove"), "has 2 blocks, expected"
    )


def _is_refused(
    subject: Subject,
    directions: Mapping[str, Array],
    facts: DirectionFacts,
    steering: Steering,
    message: str,
) -> None:
    with (
        pytest.raises(UserError, match=message) as caught,
        steered(subject, ARM, directions, facts, steering),
    ):
        pytest.fail("it was let through")
    assert "\n" not in str(caught.value)
    assert subject.active == BASE


def test_the_direction_of_one_arm_is_not_applied_to_another(subject: Subject) -> None:
    with _steered(subject, Steering("remove")):
        assert subject.active == ARM
    with (
        _steered(subject, Steering("remove")),
        pytest.raises(UserError, match="is of the arm 'behavior', not of 'base'"),
    ):
        greedy_replies(subject, BASE, CHATS, TOKENS)
    assert greedy_replies(subject, BASE, CHATS, TOKENS)
