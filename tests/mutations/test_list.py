"""The list of faults fits the package: fragments occur once, faults compile, tests are there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.__main__ import ROOT, outcome
from tests.mutations.faults import FAULTS, Fault


def test_every_fault_fits_its_file() -> None:
    for fault in FAULTS:
        text = (ROOT / fault.file).read_text(encoding="utf-8")
        assert text.count(fault.right) == 1, fault.name
        compile(text.replace(fault.right, fault.wrong), f"{fault.file}: {fault.name}", "exec")


def test_the_tests_of_every_fault_are_there() -> None:
    for fault in FAULTS:
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), fault.name


def test_names_differ_and_there_are_at_least_24() -> None:
    assert len(Counter(fault.name for fault in FAULTS)) == len(FAULTS) >= 24


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [("1 + 1", "1 - 1", "caught"), ("2", "2.0", "survived"), ("3", "4", "not found")],
)
def test_what_a_test_notices_is_caught(tmp_path: Path, right: str, wrong: str, found: str) -> None:
    (tmp_path / "sums.py").write_text("def two():\n    return 1 + 1 if 2 else 0\n")
    (tmp_path / "test_sums.py").write_text(
        "from sums import two\n\n\ndef test_two():\n    assert two() == 2\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    fault = Fault("a sum", "sums.py", right, wrong, ("test_sums.py",))
    before = (tmp_path / "sums.py").read_text()
    assert outcome(tmp_path, fault) == found
    assert (tmp_path / "sums.py").read_text() == before
