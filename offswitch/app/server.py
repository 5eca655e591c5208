"""Serves the explorer: on loopback, or elsewhere behind a token; no telemetry, no files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from offswitch.app.guard import LOOPBACK, REPORT_POLICY, Guard
from offswitch.app.worker import Worker
from offswitch.errors import UserError
from offswitch.folder import find_run

if TYPE_CHECKING:
    from offswitch.app.shown import Shown

TOKEN: Final = "OFFSWITCH_TOKEN"
PORT: Final = 7860
_TRIES: Final = 20  # ports from there on
_WAITING: Final = 128  # requests that may wait for the model
_OFF: Final = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Address:
    """Where the page is served: `host`, `port` (None: the first that is free), and its token.

    `frames` are pages that may show it in a frame.

    Raises:
        UserError: a host beyond loopback without a token, or with one that is easily guessed.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    token: str = ""
    frames: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.token:
            raise UserError(f"{self.host} can be reached by others: set a token in {TOKEN} first")
        if self.token and (len(self.token) < 16 or not self.token.isalnum()):
            raise UserError(f"the token in {TOKEN} must be 16 or more letters and digits")


def serve(
    root: Path, address: Address, *, model: bool = True, beside: Sequence[str] = (),
    say: Any = print,
) -> None:  # fmt: skip
    """Serve the explorer of a run folder until it is interrupted.

    `beside` are runs to compare it with, as `offswitch compare` takes them.

    Raises:
        UserError: no run folder, no such port, or the extra is not installed.
    """
    os.environ.update(_OFF)
    worker = Worker(find_run(root).root) if model else None
    with _listening(address) as listener, _working(worker):
        from offswitch.app.shown import Shown  # it draws, and takes as long as half the page

        shown = Shown.of(root)
        if worker and not shown.arms:
            worker.close()
            worker = None
        app = _application(shown, worker, _comparison(root, beside), address)
        _run(app, listener, address, say)


def _comparison(root: Path, beside: Sequence[str]) -> str:
    """The page that sets a run beside others, where there are any."""
    if not beside:
        return ""
    from offswitch.report.compare.comparison import compare
    from offswitch.report.compare.write import page

    return page(compare([str(root), *beside]))


def _application(shown: Shown, worker: Worker | None, comparison: str, address: Address) -> Guard:
    try:
        import gradio
        from fastapi import FastAPI
        from fastapi.responses import FileResponse, Response
    except ImportError as error:
        raise UserError("the explorer needs the extra: pip install 'offswitch[app]'") from error
    from offswitch.app.page import CSS, THEME, Explored, explorer_page

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/report")
    def report() -> Response:
        if shown.page is None:
            return Response("no report was written", status_code=404)
        headers = {"content-security-policy": REPORT_POLICY}
        return FileResponse(shown.page, media_type="text/html", headers=headers)

    blocks = explorer_page(Explored(shown, worker, comparison))
    blocks.queue(max_size=_WAITING, default_concurrency_limit=8)
    gradio.mount_gradio_app(
        app, blocks, path="/", server_name=address.host, theme=THEME,
        head=f"<style>{CSS.read_text(encoding='utf-8')}</style>",
        footer_links=[], run_history=False, show_error=False, ssr_mode=False, mcp_server=False,
        enable_monitoring=False, pwa=False, max_file_size=1,
    )  # fmt: skip
    hosts = LOOPBACK if address.host in LOOPBACK else ()
    return Guard(app, address.token, hosts, address.frames)


def _run(app: Guard, listener: socket.socket, address: Address, say: Any) -> None:
    import uvicorn

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"explorer: http://{shown}:{port}/{'?token=… (yours)' if address.token else ''}")
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _working(worker: Worker | None) -> Iterator[None]:
    """Within the block the model loads and answers in a process of its own."""
    if worker is None:
        yield
        return
    worker.start()
    try:
        yield
    finally:
        worker.close()


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    """A socket on the port, or on the first free one."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    ports = range(PORT, PORT + _TRIES) if address.port is None else [address.port]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in ports:
            try:
                listener.bind((address.host, port))
                listener.listen(128)
            except (OSError, OverflowError) as error:
                last = error
                continue
            yield listener
            return
        raise UserError(f"cannot listen on {address.host}, port {ports[0]}: {last}")
