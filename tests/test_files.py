"""Files are whole or not there, hashes say what is in them, and bad lines are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offswitch.errors import UserError
from offswitch.files import (
    digest,
    file_hash,
    read_jsonl,
    read_sealed,
    replacing,
    write_atomic,
    write_jsonl,
    write_sealed,
)


def test_a_hash_says_what_and_not_in_which_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len({digest(value) for value in ({"a": 1}, {"a": 2}, ["a", 1], "a", None)}) == 5


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    before = file_hash(path)

    def killed() -> None:
        with replacing(path) as scratch:
            scratch.write_text("half", encoding="utf-8")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        killed()
    assert file_hash(path) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="handles are told by /proc")
def test_sealed_json_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "sealed.json").write_text("old", encoding="utf-8")
    synced: list[str] = []

    def sync(handle: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.append(f"{place.name}: {path.read_text('utf-8')[:3]}")

    monkeypatch.setattr("os.fsync", sync)
    write_sealed(path, {"a": 1})
    assert read_sealed(path) == {"a": 1}
    first, *_, last = synced
    assert first == ".sealed.json.new: old"
    assert last.startswith(f"{tmp_path.name}: {{")


def test_rows_come_back_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": "a\u2028b\x85c"}, {"text": "é"}]
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == [(f"{path}, line {i}", row) for i, row in enumerate(rows, 1)]
    path.write_bytes('\ufeff{"a": 1}\r\n\r\n{"b": 2}\r\n'.encode())
    assert [place.rsplit(" ", 1)[1] for place, _ in read_jsonl(path)] == ["1", "3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a":\n', "line 2: not JSON"),
        (b'{"a": 1}\n\n[1]\n', "line 3: got list"),
        (b"\n \n", "the file is empty"),
        ('{"a": "b"}\n{"a": "é"}'.encode("latin-1"), "line 2: not utf-8"),
        ('{"a": "b"}\n'.encode("utf-16") + b"\x00", "line 2: not utf-16"),
        (b'{"a": "\\ud83d"}', "line 1: half a character"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(read_jsonl(path))
