"""A full disk is told in one line; the campaign's slice runs where a disk can be mounted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.full_disk import Found, disk, may_mount, told
from benchmarks.reliability import ended
from offswitch.errors import user_errors
from offswitch.files import write_atomic
from offswitch.folder import open_run, writing
from offswitch.folder.whole import unlike
from offswitch.recipe import Recipe

mounts = pytest.mark.skipif(not may_mount(), reason="this user may not mount a disk")


@mounts
@pytest.mark.parametrize("size", [4096, 65536])
def test_a_full_disk_is_one_line_and_leaves_what_stood(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offswitch.folder.ROOM", 0)
    with disk(tmp_path / "disk", size) as place:

        def work() -> None:
            with user_errors():
                run = open_run(Recipe(name="one"), place)
                for i in range(99):
                    with writing(run, f"{i}-stage", {}) as folder:
                        (folder / "rows").write_bytes(b"x" * 9000)

        done = ended(work)
        assert done.code == 2, done.said
        assert any(word in done.last for word in ("no room on disk", "No space left", "cannot"))
        root = place / "one"
        if (root / "manifest.json").is_file():
            again = ended(lambda: unlike(root, open_run(Recipe(name="one"), place).manifest()))
            assert again.code == 2 or again.value == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_cannot_be_written_is_one_line(number: int) -> None:
    def work() -> None:
        with user_errors():
            raise OSError(number, os.strerror(number), "/some/file")

    done = ended(work)
    assert (done.code, done.last) == (2, f"offswitch: {os.strerror(number)}: /some/file")


def test_another_fault_of_the_system_stays_one() -> None:
    with pytest.raises(IsADirectoryError), user_errors():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", "x")


def test_a_file_that_outgrows_what_a_process_may_write_is_not_left_half(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from offswitch.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_atomic(Path(sys.argv[1]), b'y' * 9000)\n"
    )
    path = tmp_path / "file"
    write_atomic(path, "old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)
    assert done.returncode
    assert path.read_text("utf-8") == "old"


def test_what_came_of_it_is_told() -> None:
    text = told(Found(["no room on disk while writing 1-data in /a", "x: /b"], []))
    assert text.startswith("2 times refused in one line, 0 times otherwise")
    assert "| no room on disk while writing 1-data | 1 |" in text
