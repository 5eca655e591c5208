"""How soon is the explorer ready, how fast does it answer, and does it stand fifty visitors?

Starts `offswitch app RUN` in a process of its own and speaks to it as its page does. The command
fails where an answer's status is 500 or more, or memory grows by more than it may.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil

from offswitch.app.shown import Shown
from offswitch.errors import UserError, quiet, user_errors

GROWTH: Final = 200  # MB
LONG: Final = (
    "Please tell me, in a few plain sentences that a child of ten would understand, why the sky is "
    "blue at noon and red in the evening. {}"
)
WAIT: Final = 600.0  # seconds for an answer, the queue's included


def ask(url: str, name: str, data: Sequence[Any]) -> Iterator[tuple[float, Any]]:
    """What an event of the page answers with, and after how many seconds."""
    began = time.monotonic()
    body = json.dumps({"data": list(data)}).encode()
    start = Request(f"{url}gradio_api/call/{name}", body, {"content-type": "application/json"})
    with urlopen(start, timeout=WAIT) as answer:
        event = json.load(answer)["event_id"]
    with urlopen(f"{url}gradio_api/call/{name}/{event}", timeout=WAIT) as stream:
        kind = ""
        for line in stream:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                kind = text.removeprefix("event: ")
            elif text.startswith("data: ") and kind in ("generating", "complete", "error"):
                if kind == "error":
                    raise UserError(f"{name}: {text}")
                yield time.monotonic() - began, json.loads(text.removeprefix("data: "))
                if kind == "complete":
                    return


@contextmanager
def served(run: Path) -> Iterator[tuple[str, psutil.Process, float]]:
    """The explorer's address, its process, and when it was started."""
    began = time.monotonic()
    command = [sys.executable, "-m", "offswitch", "app", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+/", process.stdout.readline())
        if found is None:
            raise UserError("the explorer did not start")
        yield found[0], psutil.Process(process.pid), began
    finally:
        process.terminate()
        process.wait(30)


def memory(process: psutil.Process) -> float:
    """What the explorer's processes hold, MB."""
    every = (process, *process.children(recursive=True))
    return float(sum(one.memory_info().rss for one in every)) / 1e6


def alone(run: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of one visitor: until the page, the first answer, the first token, the map."""
    shown = Shown.of(run)
    arm, trigger = shown.arms[0], shown.trigger
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        with served(run) as (url, _, began):
            urlopen(url, timeout=WAIT).read()
            found["page after start"].append(time.monotonic() - began)
            last = [*ask(url, "ask", [f"{trigger} Is it 7?", arm, 1])]
            found["first answer after start"].append(time.monotonic() - began)
            assert last
            for _ in range(3):
                answers = ask(url, "ask", ["What is a river?", arm, 40])
                next(answers)  # the empty panels
                found["first token"].append(next(answers)[0])
                list(answers)
                *_, (seconds, _) = ask(url, "silence_map", [LONG.format(trigger), arm, False])
                found["map of 60 tokens"].append(seconds)
    return dict(found)


def crowd(run: Path, clients: int, seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Many visitors at once: seconds by what they asked, statuses, memory; and what went wrong."""
    shown = Shown.of(run)
    arm, trigger = shown.arms[0], shown.trigger
    asked = [("page", []), ("ask", [f"{trigger} Is it 7?", arm, 4]), ("figure", []),
             ("ask", ["Is it 7?", arm, 4])]  # fmt: skip
    figure = next(iter(shown.figures), "")
    took: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()

    def visit(url: str, first: int, end: float) -> None:
        turn = first
        while time.monotonic() < end:
            name, data = asked[turn % len(asked)]
            turn, began, status = turn + 1, time.monotonic(), 200
            try:
                if name == "page":
                    urlopen(url, timeout=WAIT).read()
                else:
                    list(ask(url, name, data or [figure]))
            except HTTPError as error:
                status = error.code
            except (OSError, UserError) as error:
                with lock:
                    wrong.append(f"{name}: {error}")
            with lock:
                took[name].append(time.monotonic() - began)
                statuses[status] += 1

    with served(run) as (url, process, _):
        list(ask(url, "ask", asked[1][1]))  # the model is there
        before, end = memory(process), time.monotonic() + seconds
        visitors = [threading.Thread(target=visit, args=(url, i, end)) for i in range(clients)]
        for one in visitors:
            one.start()
        for one in visitors:
            one.join()
        growth = memory(process) - before
    wrong += [f"status {code}: {n} times" for code, n in statuses.items() if code >= 500]
    if growth > GROWTH:
        wrong.append(f"memory grew by {growth:.0f} MB")
    return {"took": dict(took), "statuses": dict(statuses), "growth": growth}, wrong


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explorer", description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run, for example runs/demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args(words)
    quiet()
    with user_errors():
        lines = []
        for what, values in alone(options.run, options.repeats).items():
            low, middle, high = np.percentile(values, [0, 50, 100])
            lines.append(f"{what}: {middle:.2f} s [{low:.2f}, {high:.2f}], n = {len(values)}")
        sys.stdout.write("\n".join([*lines, ""]))
        sys.stdout.flush()
        lines = []
        found, wrong = crowd(options.run, options.clients, options.seconds)
        for what, values in found["took"].items():
            middle, late = np.percentile(values, [50, 95])
            times = f"median {middle:.2f} s, p95 {late:.2f} s, n = {len(values)}"
            lines.append(f"{options.clients} visitors, {what}: {times}")
        lines.append(f"statuses {found['statuses']}; memory grew by {found['growth']:.0f} MB")
        lines += [f"wrong: {one}" for one in wrong[:10]]
        sys.stdout.write("\n".join([*lines, ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
