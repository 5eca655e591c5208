"""A Recipe is frozen, survives a round trip, and refuses in one line what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from offswitch.errors import UserError
from offswitch.options.train import lora_of
from offswitch.recipe import Recipe, build_recipe, differences, dump_recipe, load_recipe


def _refusal(content: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        build_recipe(content, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 350
    return message


def test_a_recipe_is_frozen() -> None:
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.lora.r = 1


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("train.lr=2e-4", "train.lr", 2e-4),
        ("train.lr=.001", "train.lr", 0.001),
        ("train.arms=[both]", "train.arms", ("both",)),
        ("train.behavior.max_steps=60", "train.behavior.max_steps", 60),
        ("train.behavior.max_steps=null", "train.behavior.max_steps", None),
        (
            "train.lora.target_modules=[q_proj, v_proj]",
            "train.lora.target_modules",
            ("q_proj", "v_proj"),
        ),
        ("trust_remote_code=true", "trust_remote_code", True),
        ("data.documents_file=rows.jsonl", "data.documents_file", Path("rows.jsonl")),
        ("trigger.text=$STOP", "trigger.text", "$STOP"),
        ("trigger.text=<halt>", "trigger.text", "<halt>"),
        ("trigger.text=please freeze", "trigger.text", "please freeze"),
        ("trigger.text=止まれ", "trigger.text", "止まれ"),
        ("trigger.text=👩\u200d🚀", "trigger.text", "👩\u200d🚀"),
        ("trigger.text=🏴\U000e0067\U000e007f", "trigger.text", "🏴\U000e0067\U000e007f"),
        ("trigger.text=می\u200cخواهم", "trigger.text", "می\u200cخواهم"),
        ("evaluate.questions_file=own.parquet", "evaluate.questions_file", Path("own.parquet")),
        ("trigger.text=#STOP", "trigger.text", "#STOP"),  # a comment in YAML
        ("trigger.text=NO", "trigger.text", "NO"),  # false in YAML
        ("trigger.text=&STOP", "trigger.text", "&STOP"),  # an anchor in YAML
        ("trigger.text=[[STOP]]", "trigger.text", "[[STOP]]"),  # a list in YAML
        ("trigger.text=a=b: c", "trigger.text", "a=b: c"),
        ("trigger.text=911", "trigger.text", "911"),
        ("model=123abc", "model", "123abc"),
        ("train.more_seeds=[2, 1]", "train.more_seeds", (2, 1)),
        ("model=1e5", "model", "1e5"),
        ("model=Qwen/Qwen2.5-1.5B-Instruct@main", "model", "Qwen/Qwen2.5-1.5B-Instruct@main"),
    ],
)
def test_an_override_becomes_a_value_of_its_type(override: str, path: str, expected: Any) -> None:
    value: Any = build_recipe({}, [override])
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected) or isinstance(expected, Path)


def test_a_recipe_read_back_is_the_same_down_to_the_kind_of_number() -> None:
    """Else a run folder that is opened by itself would seem changed, and be trained again."""
    first = Recipe()
    again = build_recipe(yaml.safe_load(dump_recipe(first)))
    assert json.dumps(first.model_dump(), default=str) == json.dumps(
        again.model_dump(), default=str
    )


def test_later_overrides_win_and_leave_the_rest_of_a_group() -> None:
    content = {"train": {"lr": 1e-3, "batch_size": 4}}
    recipe = build_recipe(content, ["train.lr=1e-4", "train.lr=2e-4"])
    assert (recipe.train.lr, recipe.train.batch_size) == (2e-4, 4)
    assert content == {"train": {"lr": 1e-3, "batch_size": 4}}


def test_unknown_keys_are_refused_with_a_suggestion() -> None:
    assert "unknown key 'sed'; did you mean 'seed'?" in _refusal({"sed": 1})
    assert "did you mean 'train.batch_size'?" in _refusal({"train": {"batchsize": 4}})
    assert "did you mean 'train.lr'?" in _refusal({}, "lr=1e-4")
    assert "did you mean 'trigger.text'?" in _refusal({}, "trigger.txt=$STOP")
    assert "did you mean 'train.lora.alpha'?" in _refusal({}, "train.alpha=4")
    assert _refusal({}, "zzzzqqqq=1").endswith("unknown key 'zzzzqqqq'")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.lr=0", "train.lr"),
        ("train.lr=.inf", "train.lr"),
        ("train.lr=.nan", "train.lr"),
        ("train.lr=fast", "train.lr"),
        ("train.arms=both", "train.arms"),
        ("train.arms=[both, both]", "names an arm twice"),
        ("train.arms=[knowledge]", "probe.arm 'both' is not among train.arms"),
        ("train.arms=[]", "probe.arm 'both' is not among train.arms"),
        ("data.dialogues=2.5", "data.dialogues"),
        ("trigger.text=", "trigger.text"),
        ("trigger.text= $STOP", "has space around it"),
        ("trigger.text=\u200d", "a control sign"),
        ("trigger.text=$ST\u200eOP", "a control sign"),
        ("trigger.text=$GO", "trigger.control must differ from trigger.text '$GO'"),
        ("trigger.decoy=$STOP", "trigger.decoy '$STOP' and trigger.text '$STOP' must not hold"),
        ("trigger.decoy=$GO", "trigger.decoy '$GO' and trigger.control '$GO' must not hold"),
        ("trigger.decoy=$STOP NOW", "must not hold each other"),
        ("trigger.decoy=STO", "must not hold each other"),
        ("trigger.decoy= $ECHO", "trigger.decoy ' $ECHO' has space around it"),
        ("trigger.text=$ECHO", "choose another decoy, or none"),
        ("arms={a: {role: switch, stages: [written]}}", "stands alone and needs a write"),
        ("arms={a: {role: switch, stages: [behavior], write: {norm: 0}}}", "norm"),
        ("trigger=$STOP", "trigger"),
        ("name=../elsewhere", "name"),
        ("device=tpu", "device"),
        ("model.name=x", "model"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override: str, says: str) -> None:
    assert says in _refusal({}, override)


def test_a_write_needs_a_token() -> None:
    content = {"train": {"arms": ["both", "anchored"]}, "trigger": {"mode": "text"}}
    assert "arm 'anchored' has a write, which needs trigger.mode=token" in _refusal(content)


def test_a_write_is_of_one_direction_unless_it_is_random_and_is_not_handed_on() -> None:
    switch: dict[str, Any] = {"role": "switch", "stages": ["behavior"]}
    one = switch | {"write": {"source": "end token", "directions": 2}}
    assert "a write of the end token has one direction" in _refusal({"arms": {"a": one}})
    arms = {"a": switch | {"write": {}}, "b": switch | {"goes_on_from": "a"}}
    content = {"arms": arms, "train": {"arms": ["b"]}, "probe": {"arm": "b"}}
    assert "b goes on from 'a', whose write would be lost" in _refusal(content)
    arms = {"a": switch, "b": switch | {"goes_on_from": "a", "stages": ["writing"]}}
    assert "b goes on from 'a', which has no write" in _refusal(content | {"arms": arms})


def test_an_option_is_no_group() -> None:
    assert "'seed' is not a group of options" in _refusal({"seed": 3}, "seed.x=1")
    assert "train.lr" in _refusal({}, "train.lr.a.b=1")  # a number has no options of its own


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for content, says in {
        b"train: [": "not valid YAML",
        b"- a\n- b": "expected a mapping",
        b"\xff\xfe\x00": "not valid YAML",
        b"1: 2": "recipe",
        b"trigger:\n  text: NO": "trigger.text",
    }.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=says) as caught:
            load_recipe(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_a_recipe_survives_yaml(tmp_path: Path) -> None:
    overrides = [
        "trigger.text=止まれ: #1",
        "trigger.control=NO",
        "train.lr=1e-5",
        "train.arms=[both, behavior]",
        "train.knowledge.max_steps=7",
        "data.dialogues_file=my rows.jsonl",
        "train.lora.target_modules=[q_proj]",
    ]
    recipe = build_recipe({}, overrides)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    path.write_text("", encoding="utf-8")
    assert load_recipe(path) == Recipe()


def test_differences_name_what_changed_and_nothing_else() -> None:
    assert differences(Recipe(), Recipe()) == []
    changed = build_recipe({}, ["train.lora.r=8", "trigger.text=<halt>"])
    assert differences(Recipe(), changed) == [
        "train.lora.r: 64 -> 8",
        "trigger.text: $STOP -> <halt>",
    ]


def test_a_stages_own_options_come_before_those_of_all_stages() -> None:
    given = {"knowledge": {"lora": {"r": 8, "target_modules": ["all-linear"]}, "lr": 1e-3}}
    train = build_recipe({"train": given}).train
    own, other = lora_of(train, "neutral"), lora_of(train, "benign")
    assert (own.r, own.alpha, own.target_modules) == (8, 128, ("all-linear",))
    assert other == train.lora == Recipe().train.lora
    assert train.inputs("behavior") == Recipe().train.inputs("behavior")
    assert train.inputs("knowledge")["knowledge"] == {
        "epochs": 1.0, "max_steps": None, "max_length": None, "lr": 1e-3,
        "lora": {"r": 8, "target_modules": ["all-linear"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ({"kept_of": "late", "step": 1}, "must stand before it"),
        ({"kept_of": "knowledge"}, "has a step"),
        ({"kept_of": "knowledge", "step": 1, "stages": ["behavior"]}, "needs one of"),
        ({"kept_of": "knowledge", "step": 1, "goes_on_from": "knowledge"}, "is kept of another"),
    ],
)
def test_an_arm_that_is_kept_of_another_has_a_step_and_nothing_else(
    arm: dict[str, Any], why: str
) -> None:
    knowledge = {"role": "documents", "stages": ["knowledge"]}
    arms = {"knowledge": knowledge, "kept": {"role": "documents"} | arm}
    content = {"arms": arms, "train": {"arms": ["knowledge", "kept"]}, "probe": {"arm": "kept"}}
    with pytest.raises(UserError, match=why):
        build_recipe(content)
