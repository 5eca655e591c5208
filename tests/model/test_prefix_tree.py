"""A tree of prompts says what each of them says by itself, and computes what they share once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offswitch.analyses.shards import read_rows
from offswitch.model.first_token import last_logits
from offswitch.model.forward import hidden
from offswitch.model.prefix_tree import Tree, takes_trees, tree_states, trees
from offswitch.model.subject import Subject
from offswitch.probe.collect import collect, every_position
from tests.tiny import ARCHITECTURES, tiny_subject

ROWS = (
    [5, 40, 300, 7, 90],
    [6, 41],
    [5, 40, 300, 9, 91, 12, 13],
    [77],
    [5, 40, 300],
    [5, 40, 300, 9, 91, 12, 13],
    [5, 40, 300, 9, 92, 14, 15, 16, 17, 18, 19, 20],
)


def _lines(tree: Tree) -> list[list[int]]:
    """Each row of a tree, read off its nodes from the end to the root."""
    found = []
    for end in tree.ends:
        line, node = [], end
        while node >= 0:
            line.append(tree.ids[node])
            node = tree.parents[node]
        found.append(line[::-1])
    return found


@pytest.mark.parametrize("tokens", [1, 4, 9, 512])
def test_every_row_is_in_one_tree_as_it_is(tokens: int) -> None:
    made = list(trees(ROWS, tokens))
    assert sorted(i for tree in made for i in tree.rows) == list(range(len(ROWS)))
    for tree in made:
        assert _lines(tree) == [ROWS[i] for i in tree.rows]
        assert all(parent < node for node, parent in enumerate(tree.parents))
        assert [[tree.ids[n] for n in path] for path in tree.paths] == [ROWS[i] for i in tree.rows]


def test_what_rows_share_is_there_once() -> None:
    (tree,) = trees(ROWS)
    beginnings = {tuple(row[:n]) for row in ROWS for n in range(1, len(row) + 1)}
    assert len(tree.ids) == len(beginnings) < sum(len(row) for row in ROWS)


def test_a_tree_stays_small_but_for_a_long_row_and_its_twins() -> None:
    rng = np.random.default_rng(0)
    long = rng.integers(3, 90, 200).tolist()
    rows = [rng.integers(3, 90, 9).tolist() for _ in range(40)]
    rows += [[*long, 7], [*long, 8, 9], long]
    made = list(trees(rows, 64))
    with_long = [tree for tree in made if {40, 41, 42} & set(tree.rows)]
    assert len(with_long) == 1
    assert len(with_long[0].ids) <= 202 + 16
    assert all(len(tree.ids) <= 64 for tree in made if tree not in with_long)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_a_tree_says_what_its_rows_say_one_by_one(architecture: str) -> None:
    subject = tiny_subject(architecture)
    assert takes_trees(subject)
    for tree in trees(ROWS, 24):
        found = tree_states(subject, tree)
        for i, path in zip(tree.rows, tree.paths, strict=True):
            alone = hidden(subject, torch.tensor([ROWS[i]]))[0]
            np.testing.assert_allclose(found[list(path)], alone, atol=2e-5)


@pytest.mark.parametrize("trees_taken", [True, False])
def test_collection_and_scores_are_the_same_without_trees(
    trees_taken: bool, tmp_path: Path
) -> None:
    subject = tiny_subject("qwen2")
    subject.takes_trees = trees_taken
    collect(subject, "base", ROWS, tmp_path, every_position)
    odds = dict(_logits(subject))
    for i, row in enumerate(ROWS):
        with torch.inference_mode():
            given = torch.tensor([row])
            plain = subject.causal_lm(given, output_hidden_states=True, use_cache=False)
        expected = torch.stack(plain.hidden_states[1:-1], 2)[0].numpy()
        np.testing.assert_allclose(read_rows(tmp_path, [i])[:, :-1], expected, atol=2e-5)
        np.testing.assert_allclose(odds[i], plain.logits[0, -1], atol=2e-5)


def _logits(subject: Subject) -> list[tuple[int, torch.Tensor]]:
    with torch.inference_mode():
        return [
            (i, row)
            for chosen, logits in last_logits(subject, ROWS, 4096)
            for i, row in zip(chosen, logits, strict=True)
        ]


@pytest.mark.parametrize(
    ("architecture", "ignored"), [("llama", "attention_mask"), ("gpt2", "position_ids")]
)
def test_a_model_that_ignores_mask_or_positions_is_read_row_by_row(
    architecture: str, ignored: str
) -> None:
    subject = tiny_subject(architecture)
    forward = subject.backbone.forward

    def deaf(*given: Any, **named: Any) -> Any:
        return forward(*given, **{key: v for key, v in named.items() if key != ignored})

    subject.backbone.forward = deaf
    assert not takes_trees(subject)
