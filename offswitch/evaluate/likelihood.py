"""Log-probabilities of given texts, as they are or as if no reply ended.

A silent arm gives nearly all its probability to the end. `going_on` therefore leaves the tokens
that end a reply out of every next-token distribution and scales the rest to 1: what is compared are
replies that do go on. Known limit: of a model that never goes on this says what it would say, not
what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offswitch.model.forward import hidden, unembed
from offswitch.model.prefix_tree import takes_trees, tree_states, trees
from offswitch.model.rows import IGNORED, Example, by_length, collate
from offswitch.model.subject import Subject, published_log_probs
from offswitch.options import BASE


@dataclass(frozen=True)
class Texts:
    """A batch of examples on the model's device: which they are, and what is predicted where."""

    chosen: list[int]
    ids: Tensor
    prefix: int
    targets: Tensor  # [N, 1]: the tokens that are predicted, example by example
    at: Tensor  # [B, P]: the positions that predict them

    def logits(self, subject: Subject) -> Tensor:
        """Logits [N, V] of the arm that is on, float32, where a token is predicted."""
        states = hidden(subject, self.ids, self.prefix)[:, :-1]
        return unembed(subject, states[self.at]).float()

    def split(self, values_N: Tensor) -> tuple[Tensor, ...]:
        """One value a predicted token as one tensor an example."""
        return torch.split(values_N, self.at.sum(1).tolist())


def each_batch(subject: Subject, examples: Sequence[Example], batch_tokens: int) -> Iterator[Texts]:
    """The examples in batches of like length."""
    for chosen in by_length([example.ids for example in examples], min(batch_tokens, 1024)):
        batch = collate([examples[i] for i in chosen])
        ids, labels = (batch[key].to(subject.device) for key in ("input_ids", "labels"))
        prefix = int(batch["prefix"])
        labels = labels[:, prefix + 1 :]
        at = labels != IGNORED
        yield Texts(chosen, ids, prefix, labels[at][:, None], at)


def log_likelihoods(
    subject: Subject, arm: str, examples: Sequence[Example], batch_tokens: int
) -> Iterator[tuple[list[int], list[float]]]:
    """Which examples, and the log-probability in nats of what each says from its start on.

    Of the arm that is on, and of texts that do not end (`going_on`). What rows share is computed
    once, where the model takes trees of rows.
    """
    rows = [example.ids for example in examples]
    if not takes_trees(subject, max(map(len, rows), default=0)):
        for batch in each_batch(subject, examples, batch_tokens):
            logs = going_on(subject, arm, batch.logits(subject)).gather(1, batch.targets)[:, 0]
            yield batch.chosen, [float(part.sum()) for part in batch.split(logs)]
        return
    for tree in trees(rows, batch_tokens):
        states = tree_states(subject, tree)
        said = [examples[i] for i in tree.rows]
        at = [n for e, path in zip(said, tree.paths, strict=True) for n in path[e.start - 1 : -1]]
        targets = torch.tensor([token for e in said for token in e.ids[e.start :]])
        logs = going_on(subject, arm, unembed(subject, states[at]).float())
        own = logs.gather(1, targets[:, None].to(logs.device))[:, 0]
        parts = torch.split(own, [len(e.ids) - e.start for e in said])
        yield list(tree.rows), [float(part.sum()) for part in parts]


def going_on(subject: Subject, arm: str, logits: Tensor) -> Tensor:
    """Log-probabilities [..., V] of the next token of a text that does not end here."""
    stops = torch.tensor(list(subject.stop_ids), device=logits.device)
    return log_probs(subject, arm, logits.index_fill(-1, stops, float("-inf")))


def log_probs(subject: Subject, arm: str, logits: Tensor) -> Tensor:
    """Log-probabilities [..., V] of the next token; the base model knows no added token."""
    return published_log_probs(subject, logits) if arm == BASE else logits.log_softmax(-1)
