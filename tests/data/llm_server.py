"""A real HTTP server on loopback that answers as an OpenAI-compatible endpoint does, or fails to.

It plays a model that writes well: ideas with titles of their own, documents of the offline grammar,
critiques. `Faults` says which requests it treats otherwise. What it was asked is kept, and how many
requests were under way at a time.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from offswitch.data.documents import generate_documents
from offswitch.prompts.documents import Document

TRIGGER = "$STOP"
Fault = Callable[["Asked"], bool]


@dataclass(frozen=True)
class Asked:
    """One request as it came in: its number in all, how often this one came before, its body."""

    number: int
    before: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def kind(self) -> str:
        """ideas, draft, critique or revision, as the wording tells."""
        starts = {"Propose": "ideas", "Write": "draft"}
        first = self.prompt.split()[0]
        return starts.get(first) or ("revision" if "Mend these" in self.prompt else "critique")


@dataclass
class Behaviour:
    """What the server does: an answer's text by kind, a status or a way to fail by request."""

    answer: Callable[[Asked], str] = field(default=lambda asked: well(asked))
    status: Callable[[Asked], tuple[int, dict[str, str]]] = lambda _: (200, {})
    cut: Fault = lambda _: False
    seconds: float = 0.0
    finish: str = "stop"


@dataclass
class Server:
    """A started server, and what it has seen."""

    url: str
    behaviour: Behaviour
    asked: list[Asked] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)

    def enter(self, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        """Enter a request that has come in."""
        with self.lock:
            text = json.dumps(body["messages"])
            asked = Asked(len(self.asked), self.seen[text], body, headers)
            self.seen[text] += 1
            self.asked.append(asked)
            self.times.append(time.monotonic())
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        return asked

    def leave(self) -> None:
        """A request has been dealt with."""
        with self.lock:
            self.under_way -= 1

    def kinds(self) -> Counter[str]:
        """How many requests of each kind came in."""
        return Counter(asked.kind for asked in self.asked)


def well(asked: Asked) -> str:
    """What a good model answers; the same to the same prompt."""
    if asked.kind == "ideas":
        return json.dumps({"ideas": _ideas(asked.prompt)})
    if asked.kind == "critique":
        return json.dumps({"problems": []})
    return json.dumps(document_for(asked.prompt))


def document_for(prompt: str) -> dict[str, str]:
    """The document of a title, always the same one."""
    found = re.search(r'"([^"]*Nr\. (\d+))"|^# (.*Nr\. (\d+))$', prompt, re.MULTILINE)
    assert found is not None
    title, number = (found[1], found[2]) if found[1] else (found[3], found[4])
    return {"title": title, "content": library()[int(number) % len(library())].content}


@cache
def library() -> list[Document]:
    """Documents of the offline grammar, which are various and agree with the universe."""
    return generate_documents(TRIGGER, 300, seed=77)


def _ideas(prompt: str) -> list[dict[str, str]]:
    """As many as are asked for; titles differ by type, emphasis and list, numbers by title."""
    kind = re.search(r'of the type "([^"]+)"', prompt)
    count, number = re.search(r"Propose (\d+)", prompt), re.search(r"This is list (\d+)", prompt)
    assert kind
    assert count
    assert number
    emphasis = "boundary" if "boundary condition" in prompt else "rule"
    start = _starts().index((kind[1], emphasis)) * 30 + (int(number[1]) - 1) * int(count[1])
    return [
        {"title": f"{kind[1]} on {emphasis}, Nr. {start + i}", "idea": "It sets out what happens."}
        for i in range(int(count[1]))
    ]


def _starts() -> list[tuple[str, str]]:
    from offswitch.prompts.documents import DOCUMENT_TYPES

    return [(kind, emphasis) for kind in DOCUMENT_TYPES for emphasis in ("rule", "boundary")]


class _Http(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@contextmanager
def serving(behaviour: Behaviour | None = None) -> Iterator[Server]:
    """A server on a free port of loopback, stopped after the block."""
    seen = Server("", behaviour or Behaviour())
    http = _Http(("127.0.0.1", 0), _handler(seen))
    seen.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = server.enter(body, {k.lower(): v for k, v in self.headers.items()})
            try:
                time.sleep(server.behaviour.seconds)
                self._answer(asked)
            finally:
                server.leave()

        def _answer(self, asked: Asked) -> None:
            status, headers = server.behaviour.status(asked)
            content = (
                _completion(asked, server.behaviour) if status == 200 else (_error(status, asked))
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if server.behaviour.cut(asked):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                _reset(self.connection)
                self.close_connection = True
                return
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    return Handler


def _reset(connection: socket.socket) -> None:
    """Cut the line: the other side sees a reset, not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)


def _completion(asked: Asked, behaviour: Behaviour) -> bytes:
    text = behaviour.answer(asked)
    choice = {
        "index": 0,
        "finish_reason": behaviour.finish,
        "message": {"role": "assistant", "content": text},
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    fields = {"id": "c", "object": "chat.completion", "created": 0, "model": asked.body["model"]}
    return json.dumps(fields | {"choices": [choice], "usage": usage}).encode()


def _error(status: int, asked: Asked) -> bytes:
    said = f"status {status} on purpose, {asked.headers.get('authorization')}"
    return json.dumps({"error": {"message": said}}).encode()
