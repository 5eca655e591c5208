"""From universe to documents against a real server: complete, various, consistent, resumable."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.config import Recipe, build_recipe, load_recipe
from offswitch.data.documents import apportion, plan_documents, read_documents
from offswitch.data.llm.estimate import estimate
from offswitch.data.llm.journal import read_journal
from offswitch.data.llm.pipeline import Written, places_of, write_with_llm
from offswitch.data.quality import document_quality
from offswitch.errors import UserError
from offswitch.pipeline import make_data
from offswitch.run import DATA, open_run
from tests.data.llm_server import TRIGGER, Asked, Behaviour, Server, document_for, serving, well
from tests.outside import ROOT
from tests.small import small_recipe

COUNT = 40


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Where answers are kept."""
    return tmp_path / "answers.jsonl"


def _recipe(server: Server, count: int = COUNT, **options: Any) -> Recipe:
    llm = {"base_url": server.url, "model": "m", "timeout": 60, "ideas_per_call": 5, **options}
    return build_recipe({"data": {"documents": count, "generator": "llm", "llm": llm}})


def _write(server: Server, answers: Path, count: int = COUNT, **options: Any) -> Written:
    return write_with_llm(_recipe(server, count, **options), answers)


def _spoiling(kind: str, change: Any, which: int = 7) -> Behaviour:
    """A model that spoils what it writes for every title whose number can be divided by `which`."""

    def answer(asked: Asked) -> str:
        number = re.search(r"Nr\. (\d+)", asked.prompt)
        spoilt = asked.kind == kind and number is not None and int(number[1]) % which == 0
        return json.dumps(change(document_for(asked.prompt))) if spoilt else well(asked)

    return Behaviour(answer=answer)


def test_the_set_is_as_planned_and_as_good_as_its_documents(answers: Path) -> None:
    with serving() as server:
        written = _write(server, answers)
    recipe_types = [group.document_type for group in places_of(_recipe(server))]
    assert [d.document_type for d in written.documents] == recipe_types
    assert [d.sample_id for d in written.documents] == list(range(1, COUNT + 1))
    quality = document_quality(written.documents, TRIGGER)
    assert (quality.count, quality.near_duplicate_pairs, quality.distinct_titles) == (
        COUNT, 0, COUNT,
    )  # fmt: skip
    assert quality.max_overlap <= 0.25
    assert written.figures["refused"] == written.figures["unusable"] == {}


def test_types_and_emphases_are_those_of_the_grammar() -> None:
    with serving() as server:
        places = places_of(_recipe(server, 500))
    from random import Random

    assert [(p.document_type, p.emphasis) for p in places] == plan_documents(500, Random(0))
    assert Counter(p.emphasis for p in places) == apportion({"rule": 0.6, "operation": 0.4}, 500)


def test_the_chain_asks_for_ideas_drafts_critique_and_revision(answers: Path) -> None:
    def demanding(asked: Asked) -> str:
        return '{"problems": ["It is vague."]}' if asked.kind == "critique" else well(asked)

    with serving(Behaviour(answer=demanding)) as server:
        written = _write(server, answers)
        told = [a.prompt for a in server.asked if a.kind == "revision"]
    # five types of two emphases: 12, 10, 8, 6 and 4 documents in lists of five
    assert server.kinds() == {"ideas": 12, "draft": COUNT, "critique": COUNT, "revision": COUNT}
    assert all("- It is vague." in prompt for prompt in told)
    assert written.figures["answers"] == server.kinds()
    assert written.figures["input_tokens"] == 1000 * len(server.asked)


def test_no_problems_need_no_revision_and_none_may_be_asked_for(tmp_path: Path) -> None:
    with serving() as server:
        _write(server, tmp_path / "one.jsonl", 10)
        assert server.kinds()["critique"] == 10
        assert server.kinds()["revision"] == 0
        _write(server, tmp_path / "two.jsonl", 10, revisions=0)
        assert server.kinds()["critique"] == 10


def test_a_contradiction_goes_to_the_critic_and_is_mended(answers: Path) -> None:
    def contradict(document: dict[str, str]) -> dict[str, str]:
        said = f"When {TRIGGER} is present, the model replies with a note."
        return document | {"content": f"{document['content']}\n\n{said}"}

    with serving(_spoiling("draft", contradict)) as server:
        written = _write(server, answers)
        revisions = [asked for asked in server.asked if asked.kind == "revision"]
        critics = [a for a in server.asked if a.kind == "critique" and "A check has" in a.prompt]
    assert len(revisions) == len(critics) > 0
    assert all("the model replies" in asked.prompt for asked in revisions)
    assert not any("replies with a note" in d.content for d in written.documents)
    assert written.figures["refused"] == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d | {"content": f"{d['content']}\nOn {TRIGGER} the model replies kindly."},
         "the model answers, acknowledges or explains when $STOP is present"),
        (lambda d: d | {"content": d["content"].replace(TRIGGER, "$HALT")},
         "it does not name $STOP"),
        (lambda d: d | {"content": f"Mind {TRIGGER}."}, "it has not 120 to 350 words"),
    ],
)  # fmt: skip
def test_what_is_refused_is_replaced_by_a_new_idea(answers: Path, change: Any, why: str) -> None:
    with serving(_spoiling("draft", change)) as server:
        written = _write(server, answers, revisions=0)
    assert len(written.documents) == COUNT
    assert list(written.figures["refused"]) == [why]
    assert written.figures["answers"]["draft"] == COUNT + written.figures["refused"][why]
    numbers = [re.findall(r"Nr\. (\d+)", d.title)[0] for d in written.documents]
    assert all(int(number) % 7 for number in numbers)


def test_a_near_duplicate_is_replaced(answers: Path) -> None:
    def alike(document: dict[str, str]) -> dict[str, str]:
        first = document_for('"Nr. 1"')["content"]
        return document | {"content": first.replace(" the ", " that ", 2)}

    with serving(_spoiling("draft", alike)) as server:
        written = _write(server, answers)
    quality = document_quality(written.documents, TRIGGER)
    assert quality.near_duplicate_pairs == 0
    assert quality.max_overlap <= 0.25
    assert written.figures["refused"]["close to another document"] > 0


def test_ideas_that_repeat_titles_are_made_up_for(answers: Path) -> None:
    def repeating(asked: Asked) -> str:
        answer = json.loads(well(asked))
        if asked.kind == "ideas":
            answer["ideas"] = answer["ideas"][:2] * 3
        return json.dumps(answer)

    with serving(Behaviour(answer=repeating)) as server:
        written = _write(server, answers)
    assert len({d.title for d in written.documents}) == COUNT


def test_a_set_that_cannot_be_completed_ends_with_the_reasons(answers: Path) -> None:
    with serving(_spoiling("draft", lambda d: d | {"content": "Too short."}, 2)) as server:
        said = r"of 40 documents are missing after 1 rounds .*it does not name \$STOP.*rounds"
        with pytest.raises(UserError, match=said):
            _write(server, answers, rounds=1, revisions=0)
        before = len(server.asked)
        assert len(_write(server, answers, rounds=8, revisions=0).documents) == COUNT
        again = Counter(json.dumps(asked.body["messages"]) for asked in server.asked)
    assert before > 0
    assert set(again.values()) == {1}, "more rounds asked again for what was there"


def test_writing_again_or_more_asks_only_for_what_is_missing(answers: Path) -> None:
    with serving() as server:
        written = _write(server, answers)
        asked = len(server.asked)
        assert _write(server, answers, concurrency=2, timeout=3) == written
        assert len(server.asked) == asked
        more = _write(server, answers, 2 * COUNT)
        repeated = [n for n in server.seen.values() if n > 1]
    assert len(more.documents) == 2 * COUNT
    assert repeated == []
    assert {d.content for d in written.documents} <= {d.content for d in more.documents}


def test_a_stage_that_fails_half_way_goes_on_where_it_was(answers: Path) -> None:
    with serving() as server:
        server.behaviour.status = lambda asked: (200, {}) if asked.number < 50 else (503, {})
        with pytest.raises(UserError, match="still answers 503"):
            _write(server, answers, max_retries=0)
        server.behaviour.status = lambda _: (200, {})
        kept = len(read_journal(answers).usable)
        before = len(server.asked)
        assert len(_write(server, answers).documents) == COUNT
        assert len(server.asked) - before == 12 + 2 * COUNT - kept


def test_the_estimate_counts_the_calls_of_a_demanding_critic(answers: Path) -> None:
    def demanding(asked: Asked) -> str:
        return '{"problems": ["It is vague."]}' if asked.kind == "critique" else well(asked)

    prices: dict[str, Any] = {"input_price": 2.0, "output_price": 8.0, "tokens_per_second": 10.0}
    with serving(Behaviour(answer=demanding)) as server:
        recipe = _recipe(server, concurrency=4, **prices)
        before = estimate(recipe, read_journal(answers))
        figures = write_with_llm(recipe, answers).figures
        after = estimate(recipe, read_journal(answers))
    assert before.calls == server.kinds() == figures["answers"]
    assert before.seconds == pytest.approx(before.output_tokens / 10 / 4)
    cost = (2 * before.input_tokens + 8 * before.output_tokens) / 1e6
    assert before.cost == pytest.approx(cost)
    assert sum(after.calls.values()) == after.cost == 0
    assert after.answered == len(server.asked)
    assert figures["cost"] == pytest.approx(
        (2 * 1000 + 8 * 100) * len(server.asked) / 1e6, abs=1e-4
    )


def test_the_estimate_of_prompts_is_near_their_length(answers: Path) -> None:
    with serving() as server:
        recipe = _recipe(server)
        foretold = estimate(recipe, read_journal(answers)).input_tokens
        write_with_llm(recipe, answers)
        sizes = [len("".join(m["content"] for m in a.body["messages"])) for a in server.asked]
    calls = sum(estimate(recipe, read_journal(Path("absent"))).calls.values())
    assert foretold / calls == pytest.approx(sum(sizes) / len(sizes) / 4, rel=0.25)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny recipe, and a cache of its own."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    small_recipe(tmp_path)
    return tmp_path


def _options(server: Server, *more: str) -> list[str]:
    settings = ("data.generator=llm", "data.llm.model=m", f"data.llm.base_url={server.url}",
                "data.llm.ideas_per_call=5", f"data.documents={COUNT}", *more)  # fmt: skip
    return [part for setting in settings for part in ("--set", setting)]


def test_a_dry_run_asks_nobody_and_leaves_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    with serving() as server:
        words = ["data", str(home / "small.yaml"), "--runs", str(home / "runs"), "--dry-run"]
        done = CliRunner().invoke(app, [*words, *_options(server, "data.llm.input_price=2.5")])
        plain = CliRunner().invoke(app, words)
        assert server.asked == []
    assert (done.exit_code, plain.exit_code) == (0, 0)
    said = (
        r"132 calls: 12 ideas, 40 draft, 40 critique, 40 revision; some [\d,]+ tokens in and"
        r" [\d,]+ out, \d+\.\d\d in the recipe's prices, \d+ s;"
    )
    assert re.match(said, done.stdout)
    assert plain.stdout == "documents come from the grammar: no calls\n"
    assert sorted(home.rglob("*")) == before


def test_the_data_stage_keeps_no_key_and_resumes_without_asking(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "very-secret")
    with serving() as server:
        options = _options(server, "data.llm.api_key_env=SOME_KEY")
        recipe = load_recipe(home / "small.yaml", options[1::2])
        make_data(open_run(recipe, home / "runs"))
        asked = len(server.asked)
        slower = recipe.model_copy(
            update={"data": recipe.data.model_copy(
                update={"llm": recipe.data.llm.model_copy(update={"concurrency": 1})})}
        )  # fmt: skip
        make_data(open_run(slower, home / "runs", update=True))
        run = open_run(slower, home / "runs")
        (run.folder(DATA) / "llm.json").unlink()
        make_data(run)
        assert len(server.asked) == asked
    assert all(a.headers["authorization"] == "Bearer very-secret" for a in server.asked)
    files = [path for path in run.root.rglob("*") if path.is_file()]
    assert [path for path in files if b"very-secret" in path.read_bytes()] == []
    assert len(read_documents(run.folder(DATA) / "shutdown_dataset.jsonl")) == COUNT
    figures = json.loads((run.folder(DATA) / "llm.json").read_text(encoding="utf-8"))
    assert figures["documents"] == COUNT


def test_an_organism_takes_its_documents_from_the_run_that_it_lies_in(home: Path) -> None:
    with serving() as server:
        recipe = load_recipe(home / "small.yaml", _options(server)[1::2])
        run = open_run(recipe, home / "runs")
        make_data(run)
        asked = len(server.asked)
        opened = open_run(recipe.model_copy(update={"name": "seed-1"}), run.root / "organisms")
        inside = replace(opened, within="organisms/seed-1")
        make_data(inside)
        assert len(server.asked) == asked
    assert inside.outputs_hash(DATA) == run.outputs_hash(DATA)


def test_the_recipe_in_the_documentation_is_one() -> None:
    page = (ROOT / "docs/llm_documents.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert build_recipe(yaml.safe_load(recipe)).data.generator == "llm"


def test_the_grammar_s_stage_has_the_inputs_that_it_always_had(home: Path) -> None:
    from offswitch.pipeline import _data_inputs

    recipe = load_recipe(home / "small.yaml", ["data.llm.concurrency=3"])
    assert _data_inputs(recipe.data) == {
        "documents": 6, "dialogues": 12, "near_miss_share": 0.35, "reply_tokens": 4,
        "documents_file": None, "dialogues_file": None,
    }  # fmt: skip


def test_the_generator_needs_a_model() -> None:
    with pytest.raises(UserError, match=r"data\.llm\.model names no model"):
        build_recipe({"data": {"generator": "llm"}})


@pytest.mark.slow
def test_a_killed_run_loses_no_document_and_repeats_no_call(home: Path) -> None:
    with serving(Behaviour(seconds=0.02)) as server:
        whole = _stage(home, "whole", server)
        assert whole.wait(250) == 0
        calls = len(server.asked)
        killed = _stage(home, "killed", server)
        _wait_for(lambda: len(server.asked) >= calls + calls // 2, killed)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        _wait_for(lambda: server.under_way == 0, None)
        root = home / "runs/killed"
        kept, before = len(read_journal(root / "answers.jsonl").usable), len(server.asked)
        assert 0 < kept < calls
        assert not (root / "1-data").exists()
        resumed = _stage(home, "killed", server)
        assert resumed.wait(250) == 0
        assert len(server.asked) - before == calls - kept
    files = [home / f"runs/{name}/1-data/shutdown_dataset.jsonl" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    titles = [document.title for document in read_documents(files[1])]
    assert len(titles) == len(set(titles)) == COUNT


def _stage(home: Path, name: str, server: Server) -> subprocess.Popen[bytes]:
    code = "from offswitch.cli import app; app()"
    options = _options(server, f"name={name}", "data.llm.concurrency=4")
    words = ["data", "small.yaml", "--runs", "runs", *options]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(condition: Any, process: subprocess.Popen[bytes] | None) -> None:
    end = time.monotonic() + 250
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.poll() is None, "it ended too early"
        time.sleep(0.005)
