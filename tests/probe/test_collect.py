"""What is collected is what transformers computes, in shards that survive an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from offswitch.analyses.analysis import Array
from offswitch.analyses.shards import read_rows
from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.subject import Subject
from offswitch.probe import collect as module
from offswitch.probe.collect import Where, collect, every_position, last_position
from tests.families import EACH_KIND
from tests.tiny import save_adapter

# Two begin alike, two are of one length, and one is a single id.
ROWS: Final = (
    [5, 40, 300, 7, 90],
    [6, 41],
    [5, 40, 300, 9, 91, 12, 13],
    [8, 42, 17, 18, 19],
    [77],
    [5, 40, 300, 9, 92, 14, 15, 16],
)


def ends(row: Sequence[int]) -> Sequence[int]:
    """The first and the last position of a row."""
    return sorted({0, len(row) - 1})


@torch.no_grad()
def _expected(subject: Subject, row: Sequence[int], where: Where) -> Array:
    """Residuals [M, L, D] of one row by itself; the last block's through the final norm."""
    given = torch.tensor([row])
    states = subject.causal_lm(input_ids=given, output_hidden_states=True, use_cache=False)
    found: Array = torch.stack(states.hidden_states[1:], 2)[0].numpy()
    return found[list(where(row))]


@torch.no_grad()
def _normed(subject: Subject, resid: Array) -> Array:
    last = subject.final_norm(torch.tensor(resid[:, -1])).numpy()
    return np.concatenate([resid[:, :-1], last[:, None]], axis=1)


@pytest.fixture
def small_shards(llama: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards with room for five positions."""
    monkeypatch.setattr(module, "SHARD_BYTES", 5 * 4 * len(llama.blocks) * 32)


def _shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize(
    ("where", "batch_tokens"), [(last_position, 4096), (every_position, 1), (ends, 4096)]
)
def test_residuals_are_the_models_own_hidden_states(
    subject: Subject, tmp_path: Path, where: Where, batch_tokens: int
) -> None:
    collect(subject, "base", ROWS, tmp_path, where, batch_tokens)
    for i, row in enumerate(ROWS):
        ours = _normed(subject, read_rows(tmp_path, [i]))
        np.testing.assert_allclose(ours, _expected(subject, row, where), atol=2e-5)


@EACH_KIND
def test_many_rows_that_begin_alike_share_their_opening(subject: Subject, tmp_path: Path) -> None:
    opening = list(range(20, 40))
    rows = [[*opening, *(50 + i + k for k in range(1 + i % 3))] for i in range(9)]
    collect(subject, "base", rows, tmp_path, lambda row: range(20, len(row)))
    for i, row in enumerate(rows):
        expected = _expected(subject, row, lambda row: range(20, len(row)))
        np.testing.assert_allclose(_normed(subject, read_rows(tmp_path, [i])), expected, atol=2e-5)


@EACH_KIND
def test_an_arm_is_collected_as_that_arm(subject: Subject, tmp_path: Path) -> None:
    add_arm(subject, "a", save_adapter(tmp_path / "adapter", subject))
    rows = [[subject.trigger_id or 0, *row] for row in ROWS]
    collect(subject, "a", rows, tmp_path / "a", every_position)
    collect(subject, "base", rows, tmp_path / "base", every_position)
    for i, row in enumerate(rows):
        with arm_of(subject, "a"):
            expected = _expected(subject, row, every_position)
            ours = _normed(subject, read_rows(tmp_path / "a", [i]))
        np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
        assert np.abs(ours - _normed(subject, read_rows(tmp_path / "base", [i]))).max() > 1e-2
    assert subject.active == "base"


@pytest.mark.usefixtures("small_shards")
def test_rows_come_in_the_order_asked(llama: Subject, tmp_path: Path) -> None:
    collect(llama, "base", ROWS, tmp_path, every_position)
    parts = [read_rows(tmp_path, [i]) for i in range(len(ROWS))]
    assert [len(part) for part in parts] == [len(row) for row in ROWS]
    wanted = [5, 0, 4, 0, 2]
    np.testing.assert_array_equal(
        read_rows(tmp_path, wanted), np.concatenate([parts[i] for i in wanted])
    )
    with pytest.raises(UserError, match="row 6 was not collected"):
        read_rows(tmp_path, [0, 6])


@pytest.mark.usefixtures("small_shards")
def test_shards_are_bounded_and_hold_whole_rows(llama: Subject, tmp_path: Path) -> None:
    """A row larger than a shard has one to itself."""
    index = json.loads(collect(llama, "base", ROWS, tmp_path, every_position).read_text())
    shards = [load_file(tmp_path / name) for name in sorted(index["shards"])]
    assert {path.name for path in tmp_path.iterdir()} == {"index.json", *index["shards"]}
    assert [sorted(set(s["row"].tolist())) for s in shards] == [[0], [1], [2], [3], [4], [5]]
    assert all(s["resid"].shape == (len(s["row"]), 3, 32) for s in shards)
    assert all(s["resid"].dtype == np.float32 for s in shards)


@pytest.mark.usefixtures("small_shards")
def test_shards_say_what_one_shard_says(
    llama: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(llama, "base", ROWS, tmp_path / "many")
    monkeypatch.setattr(module, "SHARD_BYTES", 32_000_000)
    collect(llama, "base", ROWS, tmp_path / "one")
    assert (len(_shards(tmp_path / "many")), len(_shards(tmp_path / "one"))) == (2, 1)
    many, one = (read_rows(tmp_path / name, range(len(ROWS))) for name in ("many", "one"))
    np.testing.assert_allclose(many, one, atol=2e-5)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("harm", ["delete", "cut", "flip"])
def test_only_what_is_damaged_is_made_again(llama: Subject, tmp_path: Path, harm: str) -> None:
    collect(llama, "base", ROWS, tmp_path, every_position)
    before = _shards(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    _harm(tmp_path / "00002.safetensors", harm)
    collect(llama, "base", ROWS, tmp_path, every_position)
    assert _shards(tmp_path) == before
    written = {n for n, t in times.items() if (tmp_path / n).stat().st_mtime_ns != t}
    assert written == {"00002.safetensors"}


def _harm(path: Path, harm: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if harm == "cut":
        path.write_bytes(content[:-8])
    if harm == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_collection_goes_on(llama: Subject, tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise KeyboardInterrupt

    collect(llama, "base", ROWS, tmp_path / "whole", every_position)
    with pytest.raises(KeyboardInterrupt):
        collect(llama, "base", ROWS, tmp_path / "part", every_position, tick=stop)
    first = (tmp_path / "part" / "00000.safetensors").stat().st_mtime_ns
    assert len(_shards(tmp_path / "part")) == 3
    collect(llama, "base", ROWS, tmp_path / "part", every_position)
    assert _shards(tmp_path / "part") == _shards(tmp_path / "whole")
    assert (tmp_path / "part" / "00000.safetensors").stat().st_mtime_ns == first


def test_another_collection_is_not_overwritten(llama: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "collected"
    add_arm(llama, "a", save_adapter(tmp_path / "adapter", llama))
    collect(llama, "base", ROWS, folder)
    before = _shards(folder)
    other = [*ROWS[:-1], [1, 2, 3]]
    for arm, rows, where in (("a", ROWS, last_position), ("base", other, last_position),
                             ("base", ROWS[:-1], last_position), ("base", ROWS, ends)):  # fmt: skip
        with pytest.raises(UserError, match="other rows, arm or model"):
            collect(llama, arm, rows, folder, where)
    llama.published = "another"
    with pytest.raises(UserError, match="delete it"):
        collect(llama, "base", ROWS, folder)
    assert _shards(folder) == before


def test_a_folder_made_anew_is_read_anew(llama: Subject, tmp_path: Path) -> None:
    """In one process: a collection is deleted, and a longer one takes its place."""
    collect(llama, "base", ROWS[:2], tmp_path, every_position)
    read_rows(tmp_path, [0])
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD_BYTES", 1)
        collect(llama, "base", ROWS, tmp_path, every_position)
    assert len(read_rows(tmp_path, [5])) == len(ROWS[5])


GROWTH: Final = """
import resource, sys
from pathlib import Path
from offswitch.probe import collect as module
from tests.tiny import tiny_subject
import torch

torch.set_num_threads(1)
module.SHARD_BYTES = 1_000_000
subject = tiny_subject("llama", layers=16)
peaks = []
for count in (50, 500):
    rows = [[3 + (7 * i + k) % 500 for k in range(40)] for i in range(count)]
    folder = Path(sys.argv[1]) / str(count)
    module.collect(subject, "base", rows, folder, module.every_position)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    """40 MB are written: kept in memory, they would show."""
    command = [sys.executable, "-c", GROWTH, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    written = sum(path.stat().st_size for path in (tmp_path / "500").iterdir()) / 2**20
    assert written > 38
    assert float(done.stdout) < 10
