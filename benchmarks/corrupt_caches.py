"""Damage to what is kept between runs: replies, unpacked models, an endpoint's answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.damage import DAMAGES, RUN, Asked, Found, Sources, copied, damaged, judged, same
from benchmarks.reliability import at, ended, opened
from offswitch.data.llm.journal import Entry, open_journal, read_journal
from offswitch.files import content_hash
from offswitch.model.gguf import unpack
from offswitch.pipeline import make_data
from tests.model.ggufs import save_gguf

REPLIES: Final = "cache: the model's replies"
ANSWERS: Final = "answers of an endpoint"


def of_caches(sources: Sources, work: Path, asked: Asked) -> Iterator[Found]:
    """The base model's replies, an unpacked model, an endpoint's answers."""
    data = "1-data/behavioral_dataset.jsonl"
    expected = content_hash(sources.whole / RUN / data)

    def again(home: Path) -> None:
        with at(home / "cache"):
            make_data(opened(home))

    for damage in (one for one in DAMAGES if asked(REPLIES, one)):
        home = copied(sources.whole, work)
        shutil.rmtree(home / "runs")
        path = next((home / "cache" / "replies").iterdir())
        for other in (sources.another, sources.earlier):  # under this model's name
            theirs = next((other / "cache" / "replies").iterdir())
            if theirs.name != path.name:
                shutil.copy(theirs, theirs.with_name(path.name))
        if damaged(path, damage, f"cache/replies/{path.name}", sources):
            done = ended(partial(again, home))
            as_before = partial(same, content_hash, home / RUN / data, expected)
            yield Found(REPLIES, damage, judged(done, path, as_before), "", done.said)
    yield from models_in(work, asked)
    yield from answers_in(work, asked)


def models_in(work: Path, asked: Asked) -> Iterator[Found]:
    """A GGUF file's model, unpacked."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, architecture in (("own", "llama"), ("another", "qwen2")):
        save_gguf(work / f"{name}.gguf", architecture)
        unpack(work / f"{name}.gguf", work / name)
    whole = content_hash(work / "own")
    for file in ("model.safetensors", "config.json", "tokenizer.json", "hashes.json"):
        kind = f"cache: an unpacked model, {file}"
        for damage in (one for one in DAMAGES if asked(kind, one)):
            home = work / "home"
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(work / "own", home)
            sources = Sources(work / "own", work / "another", work / "own")
            if damaged(home / file, damage, file, sources):
                done = ended(partial(unpack, work / "own.gguf", home))
                as_before = partial(same, content_hash, home, whole)
                outcome = judged(done, home / file, as_before)
                yield Found(kind, damage, outcome, "", done.said)


def answers_in(work: Path, asked: Asked) -> Iterator[Found]:
    """The journal of an endpoint's answers."""
    for name in ("whole", "another", "earlier"):
        (work / name).mkdir(parents=True, exist_ok=True)
        with open_journal(work / name / "answers.jsonl") as journal:
            for i in range(3):
                journal.add(
                    Entry(f"draft/{i}", f"{name}{i}", {"content": f"{name} {i}"}, None, 1, 1)
                )
    sources = Sources(work / "whole", work / "another", work / "earlier")
    own = {f"whole{i}": {"content": f"whole {i}"} for i in range(3)}
    for damage in (one for one in DAMAGES if asked(ANSWERS, one)):
        home = work / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(sources.whole, home)
        path = home / "answers.jsonl"
        if damaged(path, damage, path.name, sources):
            done = ended(partial(_usable, path))
            # What is left is asked again; what is there must be what was answered.
            known = {key: one.answer for key, one in (done.value or {}).items() if key in own}
            as_before = partial(same, own.items().__ge__, known.items(), True)
            yield Found(
                "answers of an endpoint", damage, judged(done, path, as_before), "", done.said
            )


def _usable(path: Path) -> dict[str, Entry]:
    return read_journal(path).usable
