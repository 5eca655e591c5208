"""A model's name says where it lies; what is nowhere is refused at once."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from offswitch.errors import UserError
from offswitch.model.load import load_subject
from offswitch.model.source import source_of_model
from offswitch.recipe import Recipe


def _no_network(*_: Any, **__: Any) -> None:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize("name", ["someone/some-model", "someone/some-model@v2", "some-model"])
def test_a_hub_model_without_network_fails_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    started = time.monotonic()
    with pytest.raises(UserError, match="the hub does not answer"):
        load_subject(Recipe(model=name))
    assert time.monotonic() - started < 10


def test_a_name_that_no_hub_model_can_have_is_refused() -> None:
    with pytest.raises(UserError, match="neither a folder nor"):
        load_subject(Recipe(model="a/b/c"))


def test_a_hub_model_with_revision_is_asked_for_by_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def info(_api: object, repository: str, revision: str | None, **_: object) -> None:
        asked.append((repository, revision))

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    assert source_of_model("someone/some-model@v2")["revision"] == "v2"
    assert source_of_model("someone/some-model")["revision"] is None
    assert asked == [("someone/some-model", "v2"), ("someone/some-model", None)]
