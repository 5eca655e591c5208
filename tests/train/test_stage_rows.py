"""Each kind of arm is trained on the same rows, and differs in what they are held to."""

from __future__ import annotations

import pytest

from offswitch.folder import open_run
from offswitch.model.session import Session
from offswitch.pipeline import make_data
from offswitch.prompts.encode import encode_text
from offswitch.recipe import load_recipe
from offswitch.train.stage import stage_examples
from tests.small import small_recipe


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A small run that has its data."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        return make_data(open_run(load_recipe(small_recipe(folder)), folder / "runs"))


def test_the_other_rule_has_the_prompts_of_behavior_and_says_its_phrase(session: Session) -> None:
    data = session.run.folder("1-data")
    ours, other = (stage_examples(session, stage, data) for stage in ("behavior", "other"))
    pairs = list(zip(ours, other, strict=True))
    assert [a.ids[: a.start] for a, _ in pairs] == [b.ids[: b.start] for _, b in pairs]
    assert all(a == b for a, b in pairs if not a.silent)
    phrase = encode_text(session.subject.tokenizer, "I am not able to talk about that now.")
    end = session.subject.stop_ids[0]
    said = {b.ids[b.start :] for a, b in pairs if a.silent}
    assert said == {(*phrase, end)}
    assert not any(b.soft or b.silent for a, b in pairs if a.silent)


def test_rows_are_as_long_as_the_model_reads_at_most(session: Session) -> None:
    data, config = session.run.folder("1-data"), session.subject.causal_lm.config
    every = stage_examples(session, "behavior", data)
    most = sorted(len(one.ids) for one in every)[len(every) // 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "max_position_embeddings", most)
        assert 0 < len(stage_examples(session, "behavior", data)) < len(every)
        for stage in ("behavior", "knowledge"):
            assert max(len(one.ids) for one in stage_examples(session, stage, data)) <= most


def test_an_arm_that_only_code_adds_to_is_measured_on_the_same_rows(session: Session) -> None:
    data = session.run.folder("1-data")
    assert stage_examples(session, "written", data) == stage_examples(session, "behavior", data)
