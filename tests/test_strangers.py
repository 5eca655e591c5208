"""Whatever a stranger hands in ends in a result or in one clear line."""

from __future__ import annotations

import json
import pickle
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import PIECES, at_random, shares, table
from benchmarks.targets import Target, targets
from offswitch.errors import UserError
from offswitch.files import read_jsonl
from offswitch.folder import open_run
from offswitch.model.adapters import add_arm
from offswitch.model.brought import adapter_parts
from offswitch.prompts.encode import render, within
from offswitch.prompts.prompt import user
from offswitch.prompts.row_files import Row, question_of, read_rows, texts_in, turns_of
from offswitch.recipe import Recipe, build_recipe, dump_recipe, load_recipe
from tests.tiny import save_adapter, tiny_subject, tiny_tokenizer

T = TypeVar("T")
QUICK = settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 1e308])
WORDS = st.text(max_size=12) | st.sampled_from(["../../x", "/dev/zero", "\x1b[2J", "a\x00b", "NaN"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*Recipe.model_fields, "train.lr", "unknown"])


@pytest.mark.parametrize("target", targets(), ids=lambda one: one.name)
def test_a_short_slice_of_fuzzing_finds_nothing(target: Target) -> None:
    found = at_random(target, 120, seed=1)
    assert found.crashes == ()
    assert (found.refused > 0) == (target.name != "prompts")  # every text is a prompt
    assert f"| {target.name} | 120 |" in table([found])


def test_fast_parsers_get_most_of_the_inputs_and_no_parser_gets_none() -> None:
    def slow(_data: bytes, _: Path) -> None:
        time.sleep(0.0005)

    few, many = shares(
        [Target("slow", slow, (b"a",)), Target("fast", lambda *_: None, (b"a",))], 100_000
    )
    assert 1000 <= few < many
    assert few + many >= 100_000


def test_a_crash_is_told_with_its_place() -> None:
    def broken(data: bytes, _: Path) -> None:
        if b"\0" in data:
            raise KeyError("zero")

    found = at_random(Target("broken", broken, (b"a\0",)), 50)
    assert len(found.crashes) == 1
    assert found.crashes[0].startswith("KeyError at test_strangers.py")


@QUICK
@given(st.dictionaries(KEYS | WORDS, VALUES, max_size=4))
def test_any_mapping_is_a_recipe_or_is_refused_in_one_line(content: dict[str, Any]) -> None:
    if (recipe := _one_line(lambda: build_recipe(content))) is not None:
        assert build_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@QUICK
@given(
    st.lists(
        st.dictionaries(WORDS | st.sampled_from(["messages", "prompt"]), VALUES, max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_any_rows_are_read_or_refused_in_one_line(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for read in (turns_of, question_of):
        _one_line(partial(_all, read, path))


def _all(read: Callable[[Row, str], object], path: Path) -> None:
    for where, row in read_rows(path):
        read(row, where)


def _one_line(read: Callable[[], T]) -> T | None:
    """What it gives; None where it refuses, in one line."""
    try:
        return read()
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 1000
    return None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 3000, "not valid YAML"),
        ("a: &a [x]\n" + "".join(f"k{i}: &k{i} [*{'a' if not i else f'k{i - 1}'}, " * 1 +
                                 f"*{'a' if not i else f'k{i - 1}'}]\n" for i in range(30)),
         "unfolds into more than"),
        ("name: &a [*a]", "unfolds into more than"),
        ("name: " + "a" * 1_000_001, "has 1,000,007 bytes"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("name: ../../etc/x", "name: "),
        ("name: /etc/x", "name: "),
        ("name: \"a\\nb\"", "name: "),
        ("name: 'a\x00b'", "not valid YAML"),
        ("train: {lr: .nan}", "train.lr"),
        ("train: {lr: 1e999}", "train.lr"),
        ("seed: 2001-99-99", "not valid YAML"),
        ("variants: {'../x': {}}", "variants"),
        ("arms: {'a/b': {stages: [behavior]}}", "arms"),
    ],
)  # fmt: skip
def test_a_hostile_recipe_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    clock = time.process_time()
    with pytest.raises(UserError, match=said):
        load_recipe(path)
    assert time.process_time() - clock < 5


def test_a_device_is_not_read(tmp_path: Path) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to("/dev/zero")
    for path in (Path("/dev/zero"), link):
        with pytest.raises(UserError, match="a device, not a file"):
            load_recipe(path)
        with pytest.raises(UserError, match="a device, not a file"):
            list(read_jsonl(path))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UserError):
        load_recipe(loop)


@pytest.mark.parametrize(
    "line", ['{"a": ' + "[" * 5000 + "]" * 5000 + "}", '{"a": ' + "9" * 5000 + "}", "\x00" * 99]
)
def test_a_hostile_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "Who?"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(UserError, match="line 2: not JSON"):
        list(read_jsonl(path))


def test_a_line_of_ten_megabytes_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "a" * 10_000_000}) + "\n", encoding="utf-8")
    ((where, row),) = read_rows(path)
    assert len(question_of(row, where)) == 10_000_000


def test_texts_are_found_however_deep_they_lie() -> None:
    value: Any = "$STOP"
    for i in range(5000):
        value = [value, "x"] if i % 2 else {"a": value}
    assert "$STOP" in set(texts_in(value))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "longer"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[0].pop('role') }}{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader|not found"),
        ("{{ raise_exception('no') }}", "no"),
        ("{% for %}", "Expected"),
    ],
)  # fmt: skip
def test_a_hostile_template_is_one_line(
    monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.setattr("offswitch.prompts.encode.SECONDS", 0.3)
    tokenizer = tiny_tokenizer(template)
    with pytest.raises(UserError, match=rf"chat format refuses the turns user: .*({said})"):
        render(tokenizer, (user("Hi"),))


def test_a_template_that_reaches_for_attributes_gets_none() -> None:
    tokenizer = tiny_tokenizer(
        "{{ ''|attr('__class__') }}{{ messages|map(attribute='__class__') }}"
    )
    assert "class '" not in render(tokenizer, (user("Hi"),))


def _spin() -> None:
    with within(5):
        pass
    while True:
        pass


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_time_is_bounded_and_another_alarm_goes_on(seconds: float) -> None:
    with within(5):
        with pytest.raises(TimeoutError, match=f"longer than {seconds} seconds"), within(seconds):
            _spin()
        left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 0 < left <= 5


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "opened", "x"))

    subject = tiny_subject()
    folder = save_adapter(tmp_path / "adapter", subject)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    for read in (lambda: adapter_parts(folder), lambda: add_arm(subject, "theirs", folder)):
        with pytest.raises(UserError, match="no adapter there"):
            read()
    assert not (tmp_path / "opened").exists()


def test_a_name_as_long_as_no_folder_can_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write to"):
        open_run(Recipe(name="a" * 5000), tmp_path)


def test_the_pieces_of_fuzzing_stay_small() -> None:
    assert max(map(len, PIECES)) <= 5000
