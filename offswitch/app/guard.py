"""What stands before the page: which requests are let in, by whom, how large, and the headers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
COOKIE: Final = "offswitch_token"
LARGEST: Final = 64 * 1024  # bytes of a request: a message and its settings take a tenth
# What a page of Gradio's needs; files, uploads, proxies, run history and the rest are closed.
_OPEN: Final = re.compile(
    r"/|/report|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    r"|/(?:assets|static|svelte)/[\w./@+-]*"
    r"|/gradio_api/(?:info/?|startup-events|cancel|reset/?|queue/(?:join|data)|heartbeat/\w+)"
    r"|/gradio_api/call/(?:v2/)?\w+(?:/\w+)?"
)
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {}"
)
REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Guard:
    """An ASGI application behind a door.

    `token`: who has none is turned away, if one is set. `hosts`: the names under which the page may
    be called, any if empty, so that no foreign page reaches it by another name. `frames`: pages
    that may show it in a frame.
    """

    app: App
    token: str = ""
    hosts: tuple[str, ...] = LOOPBACK
    frames: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        if self.token and not self._known(headers):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
            if not self._is_token(given):
                await _answer(send, 401, "a token is needed: open the page as /?token=TOKEN")
                return
            cookie = f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, "", [("location", "/"), ("set-cookie", cookie)])
            return
        await self.app(scope, _bounded(receive), self._with_headers(send))

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self.hosts and host not in self.hosts:
            return 403, "unknown host"
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            return 403, "another site's request"
        if not _OPEN.fullmatch(scope["path"]) or ".." in scope["path"]:
            return 404, "nothing here"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST:
            return 413, f"a request has at most {LARGEST:,} bytes"
        return None

    def _known(self, headers: dict[str, str]) -> bool:
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            kept = None
        return self._is_token(bearer) or self._is_token(kept.value if kept else "")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _with_headers(self, send: Send) -> Send:
        ancestors = " ".join(self.frames) or "'none'"
        own = [("content-security-policy", _POLICY.format(ancestors)), *_ALWAYS]
        if not self.frames:
            own.append(("x-frame-options", "DENY"))

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in own if k.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        return sent


_ALWAYS: Final = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
]


def _bounded(receive: Receive) -> Receive:
    """A body that is longer than it may be ends as if the client had gone."""
    seen = 0

    async def received() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= LARGEST else {"type": "http.disconnect"}

    return received


async def _answer(
    send: Send, status: int, text: str, headers: list[tuple[str, str]] | None = None
) -> None:
    rows = [("content-type", "text/plain; charset=utf-8"), *_ALWAYS, *(headers or [])]
    coded = [(name.encode(), value.encode()) for name, value in rows]
    await send({"type": "http.response.start", "status": status, "headers": coded})
    await send({"type": "http.response.body", "body": text.encode()})
