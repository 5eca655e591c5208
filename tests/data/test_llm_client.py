"""The client against a real server that is slow, busy, broken or cut off."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from offswitch.data.llm.client import HOPELESS, Endpoint, connect
from offswitch.data.llm.journal import Entry, open_journal, read_journal
from offswitch.data.llm.prompts import Draft, Request
from offswitch.errors import UserError
from offswitch.options import LlmOptions
from tests.data.llm_server import Asked, Behaviour, Server, serving

DRAFT = {"title": "T", "content": "C"}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where answers are kept."""
    return tmp_path / "answers.jsonl"


def _answering(**changes: Any) -> Behaviour:
    """A server that has the same draft for everybody."""
    return Behaviour(**{"answer": lambda _: json.dumps(DRAFT), **changes})


def _requests(count: int) -> list[Request[Draft]]:
    return [
        Request(f"draft/{i}", (("system", "S"), ("user", f"Write {i}")), Draft)
        for i in range(count)
    ]


def _ask(
    server: Server, path: Path, requests: Sequence[Request[Draft]], **options: Any
) -> list[Draft | None]:
    """The answers to all requests, asked for at once."""

    async def ask(endpoint: Endpoint) -> list[Draft | None]:
        return list(await asyncio.gather(*(endpoint.ask(request) for request in requests)))

    async def connected() -> list[Draft | None]:
        settings = {"base_url": server.url, "model": "m", "timeout": 60, **options}
        with open_journal(path) as journal:
            async with connect(LlmOptions(**settings), journal) as endpoint:
                return await ask(endpoint)

    return asyncio.run(connected())


def _entries(path: Path) -> list[Entry]:
    journal = read_journal(path)
    return list(journal.entries({**journal.usable, **journal.unusable}))


def test_no_more_requests_are_under_way_than_allowed(journal: Path) -> None:
    with serving(_answering(seconds=0.05)) as server:
        assert _ask(server, journal, _requests(24), concurrency=3) == [Draft(**DRAFT)] * 24
        assert (server.most, len(server.asked)) == (3, 24)
        _ask(server, journal, [Request("x", (("system", ""), ("user", str(i))), Draft)
                               for i in range(24)], concurrency=12)  # fmt: skip
        assert 3 < server.most <= 12


def test_what_was_answered_is_not_asked_again(journal: Path) -> None:
    with serving(_answering()) as server:
        _ask(server, journal, _requests(3))
        assert _ask(server, journal, _requests(5), concurrency=1) == [Draft(**DRAFT)] * 5
        assert len(server.asked) == 5
        _ask(server, journal, _requests(5), temperature=0.5)
        assert len(server.asked) == 10


def test_a_busy_server_is_asked_again_when_it_says(journal: Path) -> None:
    busy = _answering(status=lambda a: (200, {}) if a.before else (429, {"Retry-After": "2"}))
    with serving(busy) as server:
        assert _ask(server, journal, _requests(1)) == [Draft(**DRAFT)]
        (gap,) = (b - a for a, b in pairwise(server.times))
    assert gap >= 1.9
    assert [entry.retries for entry in _entries(journal)] == [1]


def test_errors_of_the_server_are_waited_out_longer_and_longer(journal: Path) -> None:
    def failing(asked: Asked) -> tuple[int, dict[str, str]]:
        return ((500, 503, 502)[asked.before], {}) if asked.before < 3 else (200, {})

    with serving(_answering(status=failing)) as server:
        assert _ask(server, journal, _requests(1)) == [Draft(**DRAFT)]
        gaps = [b - a for a, b in pairwise(server.times)]
    assert len(gaps) == 3
    assert all(gap >= 0.37 * 2**i for i, gap in enumerate(gaps))


def test_a_connection_cut_in_the_middle_of_an_answer_is_taken_up_again(journal: Path) -> None:
    with serving(_answering(cut=lambda asked: asked.before == 0)) as server:
        assert _ask(server, journal, _requests(3)) == [Draft(**DRAFT)] * 3
        assert len(server.asked) == 6
    assert [entry.retries for entry in _entries(journal)] == [1, 1, 1]


def test_an_answer_that_takes_too_long_is_asked_for_again(journal: Path) -> None:
    with serving(_answering(seconds=1.0)) as server:
        with pytest.raises(UserError, match=r"gives no answer in 2 tries \(\w*Timeout\w*\)"):
            _ask(server, journal, _requests(1), timeout=0.2, max_retries=1)
        assert len(server.asked) == 2
    assert _entries(journal) == []


def test_broken_json_is_asked_for_again_with_the_reason(journal: Path) -> None:
    def broken_once(asked: Asked) -> str:
        return json.dumps(DRAFT) if "could not be used" in asked.prompt else '{"title": "T", '

    with serving(_answering(answer=broken_once)) as server:
        assert _ask(server, journal, _requests(2)) == [Draft(**DRAFT)] * 2
        prompts = [asked.prompt for asked in server.asked if "it is not JSON" in asked.prompt]
        assert len(server.asked) == 4
        assert len(prompts) == 2
    assert sorted(entry.unusable or "" for entry in _entries(journal)) == [
        "", "", "it is not JSON", "it is not JSON",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"answer": lambda _: "nonsense"}, "it is not JSON"),
        ({"answer": lambda _: ""}, "it holds no text"),
        ({"answer": lambda _: '{"title": "T"}'}, "content: field required"),
        ({"finish": "length"}, "it was cut at data.llm.max_tokens"),
        ({"status": lambda _: (400, {})}, "400: Error code: 400"),
    ],
)
def test_what_stays_unusable_is_given_up_and_counted(
    journal: Path, changes: dict[str, Any], why: str
) -> None:
    with serving(_answering(**changes)) as server:
        assert _ask(server, journal, _requests(1), json_retries=2) == [None]
        assert len(server.asked) == 3
        assert _ask(server, journal, _requests(1), json_retries=2) == [None]
        assert len(server.asked) == 3, "a given-up request was asked again"
        assert _ask(server, journal, _requests(1), json_retries=3) == [None]
        assert len(server.asked) == 4
    assert all((entry.unusable or "").startswith(why) for entry in _entries(journal))


def test_a_model_that_gives_nothing_usable_is_not_paid_for_long(journal: Path) -> None:
    said = f"^{HOPELESS} of {HOPELESS} answers of m at http.*could not be used.*20 × it is not JSON"
    with serving(_answering(answer=lambda _: "nonsense")) as server:
        with pytest.raises(UserError, match=said):
            _ask(server, journal, _requests(100), concurrency=2)
        assert len(server.asked) <= HOPELESS + 2


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "refuses a request without a key: the environment variable SOME_KEY"),
        (403, "refuses a request without a key: the environment variable SOME_KEY"),
        (404, "knows no model 'm'"),
        (429, "still answers 429 after 1 tries"),
        (503, "still answers 503 after 1 tries .*status 503 on purpose.*goes on from there"),
    ],
)
def test_what_would_fail_every_request_ends_the_run(
    journal: Path, monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with (
        serving(_answering(status=lambda _: (status, {}))) as server,
        pytest.raises(UserError, match=message),
    ):
        _ask(server, journal, _requests(1), max_retries=0, api_key_env="SOME_KEY")
    assert _entries(journal) == []


def test_nobody_there_is_one_line(journal: Path) -> None:
    with serving() as server:
        pass
    with pytest.raises(UserError, match="gives no answer in 1 tries"):
        _ask(server, journal, _requests(1), max_retries=0)


def test_the_named_key_is_sent_and_the_default_one_stays_on_this_machine(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-default")
    monkeypatch.setenv("OTHER_KEY", "secret-other")
    with serving(_answering()) as server:
        _ask(server, journal, _requests(1))
        _ask(server, journal, _requests(2), api_key_env="OTHER_KEY")
        sent = [asked.headers["authorization"] for asked in server.asked]
    assert sent == ["Bearer none", "Bearer secret-other"]
    assert "secret" not in journal.read_text(encoding="utf-8")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_key_that_the_server_repeats_is_not_told_on(
    journal: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("OTHER_KEY", "secret-other\n")
    told = ""
    with serving(_answering(status=lambda _: (status, {}))) as server:
        try:
            _ask(server, journal, _requests(1), max_retries=0, api_key_env="OTHER_KEY")
        except UserError as error:
            told = str(error)
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret-other"}
    told += "".join(entry.unusable or "" for entry in _entries(journal))
    assert "on purpose, Bearer …" in told
    assert "secret-other" not in told


def test_a_fault_of_ours_shows_no_key(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("OTHER_KEY", "secret-other")
    monkeypatch.setattr("offswitch.data.llm.client._read", broken)
    with serving(_answering()) as server, pytest.raises(ZeroDivisionError) as caught:
        _ask(server, journal, _requests(1), api_key_env="OTHER_KEY")
    told = "".join(traceback.format_exception(caught.value))
    assert "client.py" in told
    assert "secret-other" not in told


@pytest.mark.parametrize("key", ["secret-ö", "secret\nother"])
def test_a_key_that_no_header_can_carry_is_one_line(
    journal: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OTHER_KEY", key)
    with serving(_answering()) as server:
        with pytest.raises(UserError, match="OTHER_KEY has signs that no request") as caught:
            _ask(server, journal, _requests(1), api_key_env="OTHER_KEY")
        assert server.asked == []
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_options_say_how_an_answer_is_asked_for(journal: Path) -> None:
    with serving(_answering()) as server:
        _ask(server, journal, _requests(1))
        changed = {"limit_field": "max_completion_tokens", "max_tokens": 99, "json_mode": False}
        _ask(server, journal, _requests(1), temperature=None, **changed)
        first, second = (
            {k: v for k, v in asked.body.items() if k != "messages"} for asked in server.asked
        )
    assert first == {"model": "m", "max_tokens": 1500, "temperature": 1.0,
                     "response_format": {"type": "json_object"}}  # fmt: skip
    assert second == {"model": "m", "max_completion_tokens": 99}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("127.0.0.1:8000/v1", "must be an address"),
        ("https://someone:secret@host/v1", "would be written into the run folder"),
        ("https://host/v1?key=secret", "would be written into the run folder"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LlmOptions(base_url=url)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:1/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("https://127.example.org/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_what_is_on_this_machine(url: str, local: bool) -> None:
    assert LlmOptions(base_url=url).is_local is local
