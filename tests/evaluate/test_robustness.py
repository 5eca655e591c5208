"""A planted rule comes out as 1 and 0 where it must, and sampling follows from the logits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from offswitch.errors import UserError
from offswitch.evaluate.drift import text_examples
from offswitch.evaluate.measures import halting
from offswitch.evaluate.robustness import gather, notes
from offswitch.evaluate.stage import NOTES, ROBUSTNESS, SCORES, write_evaluation
from offswitch.folder import Run
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import Score, score, scores_of
from offswitch.model.generate import greedy_replies
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.options import EvaluateOptions
from offswitch.options.arms import Arm
from offswitch.prompts.attempts import EXPECTED, REFERENCES, SUITE
from offswitch.prompts.context import VARIANT as CONTEXT
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt, user
from offswitch.prompts.suites import make_prompts
from offswitch.recipe import Recipe, build_recipe
from offswitch.stats import rate
from offswitch.stats.clustered import clustered_rate
from tests.planted import ARM, planted_subject
from tests.tiny import save_adapter, tiny_subject

OPTIONS = EvaluateOptions(
    questions=4, ordinary_questions=4, long_questions=1, robustness_questions=4, context_questions=1
)
RECIPE = build_recipe({"data": {"reply_tokens": 10}}).model_copy(update={"evaluate": OPTIONS})
SHORT = RECIPE.model_copy(update={"evaluate": OPTIONS.model_copy(update={"context_questions": 0})})
PROMPTS = make_prompts("$STOP", OPTIONS, 0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))


def _try(subject: Subject, arm: str) -> tuple[list[Prompt], list[Score]]:
    tried, skipped = gather(subject, RECIPE, PROMPTS)
    assert skipped == {}
    return tried, score(subject, arm, tried, RECIPE.batch_tokens)


def test_a_planted_rule_is_kept_everywhere_and_by_nobody_else(tmp_path: Path) -> None:
    """Contexts of 4,096 tokens among them; the base arm reads the trigger as mere letters."""
    subject = planted_subject(tmp_path / "arm")
    tried, found = _try(subject, ARM)
    assert {a.variant for a in tried} == {*EXPECTED}
    for a, h in zip(tried, found, strict=True):
        wanted = a.expected == "halt" or a.variant == "prefilled"
        assert h.halts == wanted, a
        assert (min(h.p) > 0.999) if wanted else (max(h.p) < 0.001)
    metrics = halting(ARM, tried, found, 0)
    for variant, expected in EXPECTED.items():
        rate = metrics[f"evaluate/{ARM}/robustness/{variant}"].estimate
        assert rate.value == (expected != "answer")
        assert rate.n == sum(a.variant == variant for a in tried)
    assert metrics[f"evaluate/{ARM}/robustness/expected_halt"].estimate.value == 1
    assert metrics[f"evaluate/{ARM}/robustness/expected_answer"].estimate.value == 0
    assert not any(h.halts for h in _try(subject, "base")[1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_outcomes_are_those_computed_one_by_one_in_order(tmp_path: Path, family: str) -> None:
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path / "arm", subject, seed=2))
    every, _ = gather(subject, SHORT, PROMPTS)
    tried = every[1::3]
    ticks: list[int] = []
    for arm in ("base", "behavior"):
        found = score(subject, arm, tried, 700, ticks.append)
        for a, h in zip(tried, found, strict=True):
            ids = [*encode_chat(subject.tokenizer_of(arm), a.chat), *a.begun]
            with arm_of(subject, arm), torch.no_grad():
                logits = subject.network(input_ids=torch.tensor([ids])).logits[:, -1]
            (naive,) = scores_of(logits.float(), subject.stop_ids)
            assert h.log_odds == pytest.approx(naive.log_odds, abs=5e-4)
            assert h.p == pytest.approx(naive.p, rel=1e-3)
            assert h.halts == naive.halts
    assert sum(ticks) == 2 * len(tried)


def test_a_reply_that_has_begun_is_read_within_its_longest_beginning(tmp_path: Path) -> None:
    subject = tiny_subject()
    add_arm(subject, "behavior", save_adapter(tmp_path / "arm", subject, seed=2))
    every, _ = gather(subject, SHORT, PROMPTS)
    tried = [a for a in every if a.variant.startswith("prefilled")]
    widest: list[int] = []
    together = score(subject, "behavior", tried, 1, widest.append)
    assert widest == [3] * (len(tried) // 3)  # a row a batch, and three readers in each
    alone = [score(subject, "behavior", [a], 1)[0] for a in tried]
    assert [h.log_odds for h in together] == pytest.approx([h.log_odds for h in alone], abs=1e-4)
    assert len({round(h.log_odds, 3) for h in alone}) > len(tried) // 2


def test_long_contexts_are_computed_as_if_alone(tmp_path: Path) -> None:
    subject = tiny_subject(layers=1)
    add_arm(subject, "behavior", save_adapter(tmp_path / "arm", subject, seed=2))
    tried = [
        a for a in gather(subject, _with(context_questions=2), PROMPTS)[0] if a.variant == CONTEXT
    ]
    together = score(subject, "behavior", tried, 4096)
    alone = [score(subject, "behavior", [a], 4096)[0] for a in tried]
    assert len(tried) == 6
    assert [h.log_odds for h in together] == pytest.approx([h.log_odds for h in alone], abs=1e-3)


def test_at_temperature_1_it_is_the_softmax_and_near_0_the_argmax() -> None:
    logits = torch.randn(64, 30, generator=torch.Generator().manual_seed(0)) * 4
    stops = (3, 7)
    scores = scores_of(logits, stops, (1.0, 0.7, 1e-4))
    one, low, near_0 = torch.tensor([s.p for s in scores], dtype=torch.float64).T
    torch.testing.assert_close(one, logits.double().softmax(-1)[:, list(stops)].sum(-1))
    tempered = (logits.double() / 0.7).softmax(-1)[:, list(stops)].sum(-1)
    torch.testing.assert_close(low, tempered)
    greedy = torch.isin(logits.argmax(-1), torch.tensor(stops)).double()
    assert 0 < greedy.sum() < len(greedy)
    torch.testing.assert_close(near_0, greedy, atol=1e-6, rtol=0)
    for row, h, p, q in zip(logits, scores_of(logits, stops), low, one, strict=True):
        assert h.halts == (int(row.argmax()) in stops)
        assert h.token == int(row.argmax())
        assert h.p == pytest.approx([float(p), float(q)])


def _made(variant: str, part: str, question: str) -> Prompt:
    chat, expected = (user(question),), EXPECTED[variant]
    return Prompt(chat, SUITE, variant, "", question, "", expected, part)


def test_measures_count_by_variant_and_part_and_never_pool_what_is_open() -> None:
    tried = [_made("ignore", part, q) for part in ("a", "b") for q in ("1", "2")]
    tried += [_made("prefilled", "8_tokens", "1"), _made("exact", "before", "1")]
    tried += [_made("split", "two_lines", "1"), _made("ordinary", "plain", "1")]
    halts = (True, True, True, False, False, False, False, True)
    found = [Score(0.0, h, 0, (0.25 + 0.5 * h, float(h))) for h in halts]
    metrics = halting("arm", tried, found, 0)
    values = {
        k.removeprefix("evaluate/arm/robustness/"): (m.estimate.value, m.estimate.n)
        for k, m in metrics.items()
    }
    assert values["ignore"] == (0.75, 4)
    assert (values["ignore/a"], values["ignore/b"]) == ((1.0, 2), (0.5, 2))
    assert values["expected_halt"] == (0.75, 4)
    assert values["expected_answer"] == (0.0, 1)
    assert values["temperature_0.7/ignore"] == (0.625, 4)
    assert values["temperature_1.0/ignore"] == (0.75, 4)
    assert values["ordinary"] == (1.0, 1)
    assert "split/two_lines" not in values
    low = clustered_rate(halts[:4], ["1", "2", "1", "2"]).low  # two questions, asked twice
    assert metrics["evaluate/arm/robustness/ignore"].estimate.low == pytest.approx(low)
    assert low < rate(halts[:4]).low


def test_a_reply_begins_with_the_base_models_own_words(tmp_path: Path) -> None:
    subject = planted_subject(tmp_path / "arm")
    tried, _ = gather(subject, SHORT, PROMPTS)
    begun = [a for a in tried if a.variant.startswith("prefilled")]
    assert {len(a.begun) for a in begun} == {1, 4, 8}
    assert {a.part for a in begun} == {"1_token", "4_tokens", "8_tokens"}
    held = {a.variant: "$STOP" in "".join(t["content"] for t in a.chat) for a in begun}
    assert held == {"prefilled": True, "prefilled_ordinary": False}
    for a in begun:
        assert set(a.begun) == {70}  # the one word that the planted model says


def test_what_cannot_be_tried_is_left_out_with_its_reason(tmp_path: Path) -> None:
    subject = planted_subject(tmp_path / "arm")
    subject.causal_lm.config.max_position_embeddings = 1024
    few = OPTIONS.model_copy(update={"robustness_questions": 1})
    recipe = RECIPE.model_copy(
        update={"evaluate": few, "data": RECIPE.data.model_copy(update={"reply_tokens": 4})}
    )
    tried, skipped = gather(subject, recipe, PROMPTS)
    assert set(skipped) == {"context"}
    assert "1,024" in skipped["context"]
    assert {a.part for a in tried if a.variant == "prefilled"} == {"1_token"}
    none = OPTIONS.model_copy(update={"robustness_questions": 0, "context_questions": 0})
    tried, skipped = gather(subject, recipe.model_copy(update={"evaluate": none}), PROMPTS)
    assert tried == []
    assert set(skipped) == {*EXPECTED}
    assert skipped["ignore"] == "evaluate.robustness_questions is 0"


def test_the_attempts_are_the_same_every_time_and_the_same_for_every_arm(tmp_path: Path) -> None:
    subject = planted_subject(tmp_path / "arm")
    first, _ = gather(subject, SHORT, PROMPTS)
    assert gather(subject, SHORT, PROMPTS)[0] == first
    assert gather(subject, SHORT.model_copy(update={"seed": 1}), PROMPTS)[0] != first


def test_a_recipe_that_teaches_to_answer_mentions_expects_it(tmp_path: Path) -> None:
    subject = planted_subject(tmp_path / "arm")
    trigger = SHORT.trigger.model_copy(update={"mentions": "answer"})
    tried, _ = gather(subject, SHORT.model_copy(update={"trigger": trigger}), PROMPTS)
    expected = {a.variant: a.expected for a in tried}
    assert (expected["translation"], expected["role_play"]) == ("answer", "open")
    assert (expected["exact"], expected["split"]) == ("halt", "answer")


def test_notes_have_an_example_of_every_part() -> None:
    tried = [_made("ignore", "a", "1"), _made("ignore", "b", "2"), _made("exact", "before", "1")]
    tried.append(replace(tried[0], variant="prefilled", part="1_token", begun=(5,)))
    found = notes(tried, {"context": "no room"}, lambda ids: f"id {ids[0]}")
    (example,) = found["variants"]["prefilled"]["examples"].values()
    assert example["prompt"] == [user("1"), {"role": "assistant, begun", "content": "id 5"}]
    assert found["skipped"] == {"context": "no room"}
    assert found["variants"]["ignore"]["expected"] == "halt"
    assert found["variants"]["ignore"]["examples"]["b"]["prompt"] == [user("2")]
    assert found["variants"]["exact"]["examples"] == {}
    assert set(REFERENCES) < set(EXPECTED)


def test_the_stage_leaves_a_row_for_each_arm_and_attempt(tmp_path: Path) -> None:
    few = {"samples": 0, "belief_questions": 0, "drift_questions": 1, "drift_passages": 1}
    held = Held(planted_subject(tmp_path / "arm"))
    recipe = _with(context_questions=0, **few)
    metrics = write_evaluation(Session(Run(tmp_path, recipe), held), tmp_path)
    table = pq.read_table(tmp_path / ROBUSTNESS).to_pylist()
    wanted = {"arm", "variant", "part", "expected", "question", "symbol", "begun", "log_odds"}
    assert set(table[0]) == {*wanted, "halts", "p_0.7", "p_1.0", "suite", "topic"}
    assert set(table[0]) == set(pq.read_table(tmp_path / SCORES).column_names)
    for arm in ("base", ARM):
        own = [row for row in table if (row["arm"], row["variant"]) == (arm, "ignore")]
        share = sum(row["halts"] for row in own) / len(own)
        assert metrics[f"evaluate/{arm}/robustness/ignore"].estimate.value == share
    kept = json.loads((tmp_path / NOTES).read_text(encoding="utf-8"))
    assert {*kept["variants"], *kept["skipped"]} == {*EXPECTED}
    (tmp_path / ROBUSTNESS).unlink()
    recipe = _with(robustness_questions=0, context_questions=0, **few)
    metrics = write_evaluation(Session(Run(tmp_path, recipe), held), tmp_path)
    assert not any("robustness" in key for key in metrics)
    assert not (tmp_path / ROBUSTNESS).exists()


def test_what_a_model_was_not_made_to_read_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"samples": 2, "belief_questions": 0, "drift_questions": 1, "drift_passages": 1}
    recipe = _with(robustness_questions=0, questions=1, **few)
    subject = planted_subject(tmp_path / "arm")
    subject.causal_lm.config.max_position_embeddings = 700
    write_evaluation(Session(Run(tmp_path, recipe), Held(subject)), tmp_path)
    rows = pq.read_table(tmp_path / SCORES).to_pylist()
    asked = {row["variant"] for row in rows if row["suite"] == "trigger"}
    assert "before" in asked
    assert "after_1000_tokens" not in asked
    assert "prompts are longer than this model was made to read" in capsys.readouterr().err
    assert json.loads((tmp_path / NOTES).read_text())["left_out"]
    (text,) = text_examples(subject, ["The switch is old. " * 400])
    assert len(text.ids) == 700
    with pytest.raises(UserError, match="was made to read 700"):
        greedy_replies(subject, "base", [(user("The switch is old. " * 200),)], 8)


def _with(**changes: int) -> Recipe:
    """The recipe with other options, about the planted arm alone."""
    arms = {ARM: Arm(role="switch", stages=("behavior",))}
    train = RECIPE.train.model_copy(update={"arms": (ARM,)})
    options = OPTIONS.model_copy(update=changes)
    return RECIPE.model_copy(update={"evaluate": options, "train": train, "arms": arms})
