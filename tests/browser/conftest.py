"""Chromium without a window, and pages that complain of what a page must not do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
WIDTHS: Final = (1280, 400)
# What axe-core finds and who uses a screen reader or sees little would stumble over.
SERIOUS: Final = {"serious", "critical"}
HELD: Final = "Blocked script execution in 'about:srcdoc'"  # a frame that does what it is for

Open = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Chromium nothing here can run."""
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="no chromium on this machine"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for a file's tests; while it is there, no other event loop can run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens an address; afterwards no error stood in the console and nothing left the machine."""
    contexts, complaints = [], []

    def open_page(url: str, width: int = 1280, dark: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        own = url.rpartition("/")[0]  # a page on disk loads what lies beside it
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda m: complaints.append(m.text)
                if m.type == "error" and not m.text.startswith(HELD) else None)  # fmt: skip
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: None if r.url.startswith((own, "data:", "blob:", "about:"))
                else complaints.append(f"request: {r.url}"))  # fmt: skip
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def violations(page: Any) -> list[str]:
    """What axe-core finds serious on a page: the rule and the first place."""
    from axe_playwright_python.sync_playwright import Axe

    # It would fetch the stylesheets once more, which no file may; what passes need not be listed.
    options = {"preload": False, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found
            if one["impact"] in SERIOUS]  # fmt: skip


# By how many pixels the page, or what can be set or pressed on it, reaches beyond the window.
BEYOND: Final = """() => {
    const shown = [...document.querySelectorAll("label, label *, button, input, textarea")]
        .filter(one => one.checkVisibility());
    const rights = shown.map(one => one.getBoundingClientRect().right);
    return Math.max(document.documentElement.scrollWidth, ...rights) - window.innerWidth;
}"""


def overflow(page: Any) -> int:
    """By how many pixels a page, or what can be set or pressed on it, is wider than the window."""
    return int(page.evaluate(BEYOND))
