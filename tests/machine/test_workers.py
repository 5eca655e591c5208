"""Children do what they are told, say what went wrong, and outlive neither task nor parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from offswitch.errors import UserError
from offswitch.machine.workers import ChildError, Lost, Pool
from offswitch.progress import Bar, watchers
from tests.machine import tasks
from tests.outside import ROOT


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Two child processes of one thread."""
    made = Pool(2, 1)
    yield made
    made.close()


def test_answers_come_in_the_order_of_finishing(pool: Pool, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pool.submit("slow", tasks.wait_for, second)
    pool.submit("quick", tasks.write, first)
    pool.submit("waits for a free child", tasks.wait_for, first)
    pool.submit("last", tasks.write, second)
    done = [pool.next() for _ in range(4)]
    assert [one.key for one in done[:2]] == ["quick", "waits for a free child"]
    assert [one.result() for one in done[:2]] == ["first", "first"]
    assert {one.key for one in done[2:]} == {"slow", "last"}
    assert all(one.peak_memory_mb > 5 for one in done)
    with pytest.raises(ValueError, match="no such task"):
        pool.next()


def test_answers_that_nobody_asked_for_yet_are_kept(pool: Pool, tmp_path: Path) -> None:
    pool.submit("early", tasks.write, tmp_path / "early")
    pool.submit("late", tasks.wait_for, tmp_path / "early")
    assert pool.next({"late"}).key == "late"
    with pytest.raises(ValueError, match="early"):
        pool.submit("early", tasks.pid)
    assert [one.key for one in pool.ended()] == ["early"]
    assert pool.ended() == []


def test_a_child_stays_for_the_next_task_or_is_a_fresh_one_each_time() -> None:
    for fresh in (False, True):
        pool = Pool(1, 1, fresh=fresh)
        ids = []
        for name in ("one", "two"):
            pool.submit(name, tasks.pid)
            ids.append(pool.next().result())
        pool.close()
        assert (ids[0] != ids[1]) == fresh
        assert os.getpid() not in ids
        assert not any(psutil.pid_exists(one) for one in ids)


def test_a_mistake_is_the_same_here_and_the_child_goes_on(pool: Pool) -> None:
    pool.submit("refused", tasks.refuse)
    with pytest.raises(UserError, match=r"^expected a fish, got a bicycle$") as caught:
        pool.next().result()
    assert type(caught.value) is UserError
    pool.submit("next", tasks.pid)
    assert pool.next().result()


def test_a_fault_brings_the_childs_traceback(pool: Pool) -> None:
    pool.submit("faulty", tasks.fail)
    with pytest.raises(ChildError, match=r"in fail\n(?s:.*)ZeroDivisionError: a fault in a task"):
        pool.next().result()
    pool.submit("mute", tasks.give_what_cannot_be_sent)
    with pytest.raises(ChildError, match="pickle"):
        pool.next().result()


def test_a_killed_child_is_told_in_one_line_and_replaced(pool: Pool, tmp_path: Path) -> None:
    pool.submit("2-train/both", tasks.die)
    pool.submit("2-train/benign", tasks.write, tmp_path / "done")
    found = {one.key: one for one in (pool.next(), pool.next())}
    assert found["2-train/benign"].result() == "done"
    with pytest.raises(Lost) as caught:
        found["2-train/both"].result()
    line = str(caught.value)
    assert line.startswith("2-train/both: its process was lost (killed by SIGKILL); the same")
    assert "\n" not in line
    assert isinstance(caught.value, UserError)
    pool.submit("2-train/both", tasks.write, tmp_path / "again")
    assert pool.next().result() == "again"


def test_an_idle_child_that_is_gone_is_replaced() -> None:
    pool = Pool(1, 1)
    pool.submit("one", tasks.pid)
    first = psutil.Process(pool.next().result())
    first.kill()
    first.wait(tasks.PATIENCE)
    pool.submit("two", tasks.pid)
    assert pool.next().result() != first.pid
    pool.close()


def test_children_are_held_to_their_threads_and_know_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    pool = Pool(1, 3)
    pool.submit("where", tasks.surroundings)
    told = pool.next().result()
    pool.close()
    assert (told["OMP_NUM_THREADS"], told["MKL_NUM_THREADS"], told["child"]) == ("3", "3", True)


def test_each_child_has_a_device_of_its_own(tmp_path: Path) -> None:
    pool = Pool(2, 1, devices=("4", "GPU-5"))
    for name in ("one", "two"):
        pool.submit(name, tasks.device_after, tmp_path / "go")
    (tmp_path / "go").touch()
    assert {pool.next().result() for _ in range(2)} == {"4", "GPU-5"}
    pool.submit("dies", tasks.die)
    assert isinstance(pool.next().error, Lost)
    for name in ("one", "two"):
        pool.submit(name, tasks.device_after, tmp_path / "go")
    assert {pool.next().result() for _ in range(2)} <= {"4", "GPU-5"}
    pool.close()


def test_bars_and_lines_are_relayed_and_nothing_else(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    bars: list[Bar] = []
    watchers.append(bars.append)
    try:
        pool.submit("talks", tasks.chatter, 3)
        pool.next().result()
    finally:
        watchers.remove(bars.append)
    assert bars == [*(Bar("counting", done, 3) for done in range(4)), Bar("counting", 3, 3, True)]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "a line from a child"
    assert "counting" in err
    assert "3/3" in err
    assert "from" not in err.replace("a line from a child", "")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_children_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tests.machine import tasks\n"
    code += "tasks.parent(Path(sys.argv[1]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    children = []
    for name in ("a", "b"):
        tasks.wait_for(tmp_path / name)
        children.append(psutil.Process(int((tmp_path / name).read_text("utf-8"))))
    process.send_signal(how)
    _, said = process.communicate(timeout=tasks.PATIENCE)
    _, left = psutil.wait_procs(children, timeout=tasks.PATIENCE)
    assert left == []
    assert process.returncode != 0
    assert ("Traceback" in said) == (how == signal.SIGINT)  # the parent's own
