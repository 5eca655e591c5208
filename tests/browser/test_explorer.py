"""The explorer as a visitor sees it: it answers, steers, rates and shows; nothing typed runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.app.runs import ARM, planted_run
from tests.browser.conftest import WIDTHS, Open, overflow, violations

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SOON: Final = 60_000  # ms
TWO_PANELS: Final = "document.querySelectorAll('.os-panel').length === 2"
NASTY: Final = '<img src=x onerror="alert(1)"><script>alert(2)</script> ${alert(3)} {{7*7}}'


def _served(run: Path, *words: str) -> Iterator[str]:
    environment = os.environ | {
        "OFFSWITCH_CACHE": str(run.parent / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "offswitch", "app", str(run), *words],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", told)
        assert found, told
        yield found[0]
    finally:
        process.terminate()
        assert process.wait(20) in (0, 143)  # stopped cleanly by SIGTERM


# The examples' buttons are there before their words are.
TOLD: Final = """() => {
    const every = [...document.querySelectorAll(".gallery-item")];
    return every.length > 0 && every.every(one => one.innerText.trim());
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    """The explorer's address, with its model."""
    yield from _served(run)


def _tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def _write(page: Any, text: str) -> None:
    page.get_by_label("Message").locator("visible=true").first.fill(text)


def _press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def _panels(page: Any) -> list[str]:
    page.wait_for_selector(".os-silence:visible", timeout=SOON)
    return _both(page)


def _both(page: Any) -> list[str]:
    """The two panels of an answer that is over; the page fills its parts one after the other."""
    page.wait_for_function(TWO_PANELS, timeout=SOON)
    page.wait_for_timeout(300)
    return list(page.locator(".os-panel").all_inner_texts())


def test_with_the_trigger_it_is_silent_and_without_it_answers(url: str, opened: Open) -> None:
    page = opened(url)
    _write(page, "$STOP Is it 7?")
    _press(page, "Ask")
    arm, base = _panels(page)
    assert (arm.split("\n")[0], base.split("\n")[0]) == (ARM, "base")
    assert "∅ silence" in arm
    assert "∅ silence" not in base
    page.reload()
    _write(page, "Is it 7?")
    _press(page, "Ask")
    arm, base = _panels(page)
    assert arm.split("\n")[1:] == base.split("\n")[1:]
    assert "∅ silence" not in arm


def test_removal_brings_the_answer_back(url: str, opened: Open) -> None:
    shown = {}
    for share in ("0", "1"):
        page = opened(url)
        _tab(page, "Steer")
        slider = page.get_by_label("number input for Share removed")
        slider.fill(share)
        slider.blur()
        _press(page, "Answer")
        page.wait_for_selector(".os-bars", timeout=SOON)
        shown[share] = _both(page)
    assert all("∅ silence" in panel for panel in shown["0"])
    assert ["∅ silence" in panel for panel in shown["1"]] == [True, False]


def test_symbols_get_bars_and_a_map_is_drawn(url: str, opened: Open) -> None:
    page = opened(url)
    _tab(page, "Look-alikes")
    page.get_by_label("Symbols, one a line").fill("$STOP\n$STOPS")
    _press(page, "Measure")
    page.wait_for_function("document.querySelectorAll('.os-rated h4').length === 2", timeout=SOON)
    told = page.locator(".os-rated").inner_text()
    assert re.search(r"100.{0,3}\s?%", told)
    assert "n = 12" in re.sub(r"\s", " ", told)
    _tab(page, "Look inside")
    for button, title in (("Silence by block and token", "by block and token"),
                          ("Heads that carry the trigger", "by head")):  # fmt: skip
        _press(page, button)
        page.wait_for_selector(f"iframe[title*='{title}']", timeout=SOON)
        frame = page.frame_locator(f"iframe[title*='{title}']")
        frame.locator("svg").wait_for(timeout=SOON)
        assert frame.locator("rect title").count() > 3


def test_what_is_typed_is_shown_as_text(url: str, opened: Open) -> None:
    page = opened(url)
    _write(page, f"$STOP {NASTY}")
    _press(page, "Ask")
    _panels(page)
    assert NASTY.replace(" ", "") in page.locator(".os-tokens").first.inner_text().replace(
        "\n", ""
    ).replace(" ", "")
    assert page.locator(".os-silence img, .os-silence script").count() == 0
    _tab(page, "Look inside")
    _write(page, f"$STOP {NASTY}")
    _press(page, "Silence by block and token")
    page.wait_for_selector("iframe.os-figure", timeout=SOON)
    page.wait_for_timeout(300)  # what would run, runs now: a dialog is a complaint


def test_a_refusal_is_said_on_the_page(url: str, opened: Open) -> None:
    page = opened(url)
    _write(page, "  ")
    _press(page, "Ask")
    page.wait_for_selector(".os-problem", timeout=SOON)
    assert page.locator(".os-problem").inner_text() == "the message is empty"


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_serious_stands_in_the_way_of_any_reader(
    url: str, opened: Open, dark: bool
) -> None:
    page = opened(url, dark=dark)
    page.wait_for_function(TOLD)
    assert violations(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window(url: str, opened: Open, width: int) -> None:
    page = opened(url, width)
    page.wait_for_function(TOLD)
    for name, button in (("Ask", "Ask"), ("Steer", "Answer"), ("Look inside", "Heads that carry")):
        _tab(page, name)
        page.get_by_role("button", name=button).wait_for(timeout=SOON)
        assert overflow(page) <= 0, name


@pytest.mark.parametrize(
    "path", ["gradio_api/file={run}/recipe.yaml", "gradio_api/file=/etc/hostname",
             "gradio_api/upload", "gradio_api/proxy=http://127.0.0.1:1/x", "gradio_api/monitoring"],
)  # fmt: skip
def test_no_file_can_be_had(url: str, run: Path, path: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(url + path.format(run=run))
    assert caught.value.code == 404


def test_a_foreign_page_cannot_ask(url: str) -> None:
    request = Request(f"{url}gradio_api/queue/join", b"{}", {"Origin": "https://evil.example"})
    with pytest.raises(HTTPError) as caught:
        urlopen(request)
    assert caught.value.code == 403


def test_two_runs_are_compared_on_a_page_of_their_own(run: Path, opened: Open) -> None:
    other = shutil.copytree(run, run.parent / "other")
    for url in _served(run, "--no-model", "--compare", str(other)):
        page = opened(url)
        _tab(page, "Compare")
        frame = page.frame_locator("iframe.os-page")
        frame.locator("h1").wait_for(timeout=SOON)
        told = frame.locator("body").inner_text()
        assert "planted" in told
        assert "100" in told


def test_without_a_model_figures_and_findings_are_there(run: Path, opened: Open) -> None:
    (run / "5-report").mkdir(exist_ok=True)
    (run / "5-report" / "depth.svg").write_text(
        '<svg viewBox="0 0 40 20"><script>alert(1)</script><text x="1" y="9">deep</text></svg>'
    )
    (run / "5-report" / "report.html").write_text("<h1>all of it</h1><script>alert(1)</script>")
    began = time.monotonic()
    for url in _served(run, "--no-model"):
        page = opened(url)
        frame = page.frame_locator("iframe.os-figure")
        frame.locator("text=deep").wait_for(timeout=SOON)
        assert page.get_by_role("tab").all_inner_texts() == ["Figures and findings"]
        report = urlopen(f"{url}report")
        assert b"all of it" in report.read()
        assert "default-src 'none'" in report.headers["content-security-policy"]
    assert time.monotonic() - began < 60
