"""`offswitch app`: who may listen where, and each mistake one line with exit code 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offswitch.app.server import TOKEN, Address, _listening
from offswitch.cli import app
from offswitch.errors import UserError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert Address(host).token == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_any_other_address_needs_one_that_cannot_be_guessed(host: str) -> None:
    with pytest.raises(UserError, match=f"set a token in {TOKEN}"):
        Address(host)
    with pytest.raises(UserError, match="16 or more"):
        Address(host, token="short")
    assert Address(host, token="a" * 16).host == host


def test_the_first_free_port_is_taken_and_a_named_one_must_be_free() -> None:
    with _listening(Address()) as first, _listening(Address()) as second:
        taken = first.getsockname()[1]
        assert second.getsockname()[1] != taken
        assert first.getsockname()[0] == "127.0.0.1"
        with (
            pytest.raises(UserError, match=f"cannot listen on 127.0.0.1, port {taken}"),
            _listening(Address(port=taken)),
        ):
            pass


def test_the_door_is_closed_afterwards() -> None:
    with _listening(Address()) as listener:
        port = listener.getsockname()[1]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: not a run folder"),
        (["nowhere", "--host", "0.0.0.0"], "0.0.0.0 can be reached by others"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TOKEN, raising=False)
    done = CliRunner().invoke(app, ["app", *words])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
