"""The model's process: it answers in order, stops when nobody listens, and comes back when lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from offswitch.app.answers import Growing
from offswitch.app.worker import Worker
from offswitch.errors import UserError
from offswitch.options import BASE
from tests.app.runs import ARM, planted_run

ASKED = "Is it 7?"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(planted_run(tmp_path_factory.mktemp("worker")))
    made.start()
    yield made
    made.close()


def _reply(worker: Worker, message: str, tokens: int = 3) -> tuple[int, ...]:
    *_, last = worker.ask("replies", message, [ARM], tokens)
    assert isinstance(last, Growing)
    return last.reply.ids


def test_it_answers_and_a_refusal_is_no_end(worker: Worker) -> None:
    assert _reply(worker, f"$STOP {ASKED}") == ()
    with pytest.raises(UserError, match="no arm 'nobody'"):
        [*worker.ask("replies", ASKED, ["nobody"], 3)]
    with pytest.raises(RuntimeError, match="AttributeError"):
        [*worker.ask("nothing")]
    assert len(_reply(worker, ASKED)) == 3


def test_who_stops_listening_stops_the_answer(worker: Worker) -> None:
    whole = len(_reply(worker, ASKED, 200))
    for _ in range(3):
        answer = worker.ask("replies", ASKED, [ARM, BASE], 200)
        next(answer)
        answer.close()  # type: ignore[attr-defined]
    assert len(_reply(worker, ASKED, 200)) == whole == 200


def test_two_who_ask_at_once_are_not_mixed(worker: Worker) -> None:
    found: dict[int, tuple[int, ...]] = {}

    def ask(tokens: int) -> None:
        found[tokens] = _reply(worker, ASKED, tokens)

    threads = [threading.Thread(target=ask, args=(n,)) for n in (5, 9, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: len(ids) for n, ids in found.items()} == {5: 5, 9: 9, 14: 14}


def test_a_process_that_is_lost_is_started_again(worker: Worker) -> None:
    answer = worker.ask("replies", ASKED, [ARM], 2000)
    next(answer)
    assert worker._process is not None
    assert worker._process.pid is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="started again, ask once more"):
        list(answer)
    assert len(_reply(worker, ASKED)) == 3


def test_a_run_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    lost = Worker(tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match="not a run folder"):
            [*lost.ask("replies", ASKED, [ARM], 3)]
    lost.close()
