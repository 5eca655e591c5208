"""Who is let in, to what, and with which headers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from offswitch.app.guard import COOKIE, LARGEST, Guard

TOKEN = "0123456789abcdefXYZ"
HOST = {"host": "127.0.0.1:7860"}


async def _inner(_scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 once it has the whole body; 499 if the client goes."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    status = 200 if message["type"] == "http.request" else 499
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def _ask(
    guard: Guard, path: str = "/", headers: dict[str, str] = HOST, query: str = "",
    body: tuple[bytes, ...] = (b"",),
) -> tuple[int, dict[str, str]]:  # fmt: skip
    rows = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "path": path, "headers": rows, "query_string": query.encode(),
             "method": "POST"}  # fmt: skip
    parts = [{"type": "http.request", "body": part, "more_body": i + 1 < len(body)}
             for i, part in enumerate(body)]  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/config", 200), ("/report", 200), ("/assets/index-1.js", 200),
        ("/gradio_api/queue/join", 200), ("/gradio_api/heartbeat/abc12", 200),
        ("/gradio_api/file=/etc/passwd", 404), ("/file=/etc/passwd", 404),
        ("/gradio_api/upload", 404), ("/gradio_api/proxy=https://example.org", 404),
        ("/gradio_api/vibe-edit", 404), ("/gradio_api/run-history/connect", 404),
        ("/monitoring", 404), ("/docs", 404), ("/openapi.json", 404), ("/login", 404),
        ("/assets/../../secret", 404), ("/static/..%2f..%2fsecret", 404), ("/runs/demo", 404),
        ("//etc/passwd", 404), ("/gradio_api/stream/x", 404),
    ],
)  # fmt: skip
def test_what_the_page_needs_is_open_and_the_rest_is_closed(path: str, status: int) -> None:
    assert _ask(Guard(_inner), path)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:7860"}, 200), ({"host": "[::1]:7860"}, 200),
        ({"host": "evil.example"}, 403), ({}, 403), ({"host": "127.0.0.1.evil.example"}, 403),
        (HOST | {"origin": "http://127.0.0.1:7860"}, 200),
        (HOST | {"origin": "https://evil.example"}, 403), (HOST | {"origin": "null"}, 403),
        (HOST | {"origin": "http://127.0.0.1:1234"}, 403),
    ],
)  # fmt: skip
def test_no_foreign_page_reaches_it(headers: dict[str, str], status: int) -> None:
    assert _ask(Guard(_inner), headers=headers)[0] == status


def test_with_a_token_only_who_has_it_comes_in() -> None:
    guard = Guard(_inner, TOKEN, hosts=())
    assert _ask(guard)[0] == 401
    assert _ask(guard, query="token=wrong")[0] == 401
    assert _ask(guard, headers=HOST | {"cookie": f"{COOKIE}=wrong"})[0] == 401
    assert _ask(guard, headers=HOST | {"cookie": "\x00;=;;;"})[0] == 401
    status, headers = _ask(guard, query=f"token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    kept = headers["set-cookie"].split(";")[0]
    assert _ask(guard, headers=HOST | {"cookie": kept})[0] == 200
    assert _ask(guard, headers=HOST | {"authorization": f"Bearer {TOKEN}"})[0] == 200


def test_a_request_is_bounded_whatever_it_says_of_its_length() -> None:
    guard, half = Guard(_inner), b"x" * (LARGEST // 2)
    assert _ask(guard, headers=HOST | {"content-length": str(LARGEST)}, body=(half, half))[0] == 200
    assert _ask(guard, headers=HOST | {"content-length": str(LARGEST + 1)})[0] == 413
    assert _ask(guard, headers=HOST | {"content-length": "-1"})[0] == 413
    assert _ask(guard, body=(half, half, b"x"))[0] == 499


def test_answers_carry_what_keeps_other_pages_out() -> None:
    headers = _ask(Guard(_inner))[1]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    framed = _ask(Guard(_inner, frames=("https://huggingface.co",)))[1]
    assert "frame-ancestors https://huggingface.co" in framed["content-security-policy"]
    assert "x-frame-options" not in framed


def test_websockets_are_not_spoken() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(Guard(never)({"type": "websocket"}, never, never))
