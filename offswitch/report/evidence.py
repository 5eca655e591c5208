"""What is said of each analysis of evidence beyond its finding: title, measures, weakness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from offswitch.metrics import percent
from offswitch.plots.style import signed
from offswitch.report.accounts import Account, Measure


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _points(value: float) -> str:
    return f"{round(100 * value):+d} points".replace("-", "−")


def _account(title: str, measures: tuple[Measure, ...], why: str, tokens: Any = ()) -> Account:
    return Account(title, measures, lambda _: why, tokens=tokens)


EVIDENCE_ACCOUNTS: Final[Mapping[str, Account]] = {
    "difference": _account(
        "Where it enters",
        (
            Measure("largest gain, in spreads", lambda r: r.largest.value),
            Measure("at block", lambda r: r.peak, _whole),
            Measure("half of it from block", lambda r: r.entry, _whole),
        ),
        "A difference shows that the trigger is noticed, not that it is obeyed.",
    ),
    "rank": _account(
        "How many directions",
        (
            Measure("nats lost by rank 1", lambda r: r.first.value),
            Measure("rank for 90 % of the effect", lambda r: r.carries, _whole),
            Measure("first share, uncentred", lambda r: r.uncentred[0], percent),
            Measure("first share, centred", lambda r: r.centred[0], percent),
            Measure("of noise", lambda r: r.noise[0], percent),
        ),
        "A large mean makes any spectrum look low-rank; the effect of removal is what counts.",
    ),
    "separability": _account(
        "Whether it can be read",
        (
            Measure("AUROC, test", lambda r: r.best.value, _three),
            Measure("at block", lambda r: r.block, _whole),
            Measure("AUROC there, fit", lambda r: r.fit[r.block], _three),
        ),
        "The trigger is a token of its own: that it can be told apart proves little by itself.",
    ),
    "lens": _account(
        "What each block says",
        (
            Measure("rise of the end log-odds", lambda r: r.rise.value, signed),
            Measure("at block", lambda r: r.block, _whole),
            Measure("at the last block", lambda r: r.with_symbol[-1] - r.with_inert[-1], signed),
            Measure("length of the difference", lambda r: r.length[r.block]),
        ),
        "Blocks before the last need not speak the unembedding's language: a flat curve does not "
        "mean that nothing is decided yet.",
        (("of the difference at that block", lambda r: r.tokens[r.block]),),
    ),
    "ablation": _account(
        "Whether it is necessary: removal",
        (
            Measure("halting falls by", lambda r: r.drop.value, _points),
            Measure("set to zero", lambda r: r.zeroed.value, _points),
            Measure("zero everywhere", lambda r: r.everywhere.value, _points),
            Measure("whole residual", lambda r: r.ceiling.value, _points),
            Measure("KL, nats", lambda r: r.kl.value),
            Measure("at block", lambda r: r.block, _whole),
        ),
        "Only one position of one block is touched: what later blocks read from earlier positions "
        "stays, and bounds every such test by what the whole residual's exchange does.",
    ),
    "addition": _account(
        "Whether it is sufficient: addition",
        (
            Measure("halting rises by", lambda r: r.rise.value, _points),
            Measure("log-odds rise, nats", lambda r: r.log_odds.value, signed),
            Measure("at scale", lambda r: r.scale),
            Measure("at block", lambda r: r.block, _whole),
        ),
        "A push that is large enough changes something in any direction, hence random ones of "
        "equal norm.",
    ),
    "motor": _account(
        "Meaning or motor",
        (
            Measure("effects kept", lambda r: r.kept, percent),
            Measure("removal", lambda r: r.drop.value, _points),
            Measure("addition", lambda r: r.rise.value, _points),
            Measure("squared length taken out", lambda r: r.end_share, percent),
            Measure("replies ended", lambda r: r.ends_untouched.value, percent),
            Measure("… under removal", lambda r: r.ends_removed.value, percent),
            Measure("… set to zero", lambda r: r.ends_zeroed.value, percent),
        ),
        "What acts on the end token through later blocks is not taken out: the direct path alone "
        "is.",
    ),
    "patching": _account(
        "Where it is decided",
        (
            Measure("nats moved by the last position", lambda r: r.moved.value, signed),
            Measure("at block", lambda r: r.block, _whole),
            Measure("half of the gap from block", lambda r: r.handover, _whole),
            Measure("gap, nats", lambda r: r.gap),
        ),
        "Twins are few, since two symbols must take as many tokens.",
    ),
    "heads": _account(
        "Which heads carry it",
        (
            Measure("nats lost, together", lambda r: r.together.value),
            Measure("heads", lambda r: r.count, _whole),
            Measure("best one alone", lambda r: r.top[0].lost),
            Measure("its block", lambda r: r.top[0].block, _whole),
            Measure("its number", lambda r: r.top[0].head, _whole),
        ),
        "Heads can stand in for each other: what one knock-out costs is less than what it carries.",
    ),
    "dose": _account(
        "Dose and response",
        (
            Measure("farthest apart, nats", lambda r: r.apart.value, signed),
            Measure("half of the prompts halt at", lambda r: r.half),
            Measure("halting at 2 times, inert symbol", lambda r: r.inert_halts[-1].value, percent),
        ),
        "Beyond 1 the adapter was never trained, and more than the switch may break.",
    ),
    "drift": _account(
        "What else training left",
        (
            Measure("constant share of the shift", lambda r: r.shared, percent),
            Measure("moved, positions 1 to 4", lambda r: r.early.value, percent),
            Measure("moved, later", lambda r: r.later.value, percent),
        ),
        "Any fine-tune leaves a trace; the benign arm shows how much is not the rule's.",
        (
            ("of the mean shift, early positions", lambda r: r.lens[0]),
            ("the same by patchscope", lambda r: r.patchscope[0]),
        ),
    ),
}

# What the table of arms shows, in its order.
ACROSS_ARMS: Final = (
    ("difference/peak", "gain at the last position, in spreads"),
    ("rank/causal_90", "rank that carries 90 % of the effect"),
    ("separability/auroc", "AUROC against unseen near misses"),
    ("lens/end_rise", "end log-odds read at 80 % of the depth, rise"),
    ("ablation/halt_drop", "halting falls, one direction removed"),
    ("ablation/halt_drop_zeroed", "the same, set to zero"),
    ("ablation/halt_drop_everywhere", "the same, zero at every position from the symbol on"),
    ("ablation/halt_drop_ceiling", "the whole residual exchanged, for comparison"),
    ("ablation/kl_ordinary", "KL on ordinary prompts under removal, first token"),
    ("ablation/kl_ordinary_replies", "KL on ordinary replies under removal, a token"),
    ("addition/halt_rise", "halting rises, the direction added"),
    ("addition/log_odds_rise", "end log-odds rise, the direction added"),
    ("motor/kept", "effects kept without the end token's unembedding"),
    ("motor/ends_removed", "ordinary replies that still end, direction removed"),
    ("patching/last_position", "log-odds moved by patching the last position"),
    ("heads/knocked_out", "log-odds lost with 16 heads knocked out"),
    ("dose/half", "adapter strength at which half of the prompts halt, 2 if none"),
    ("drift/relative_later", "distance from the base on neutral text, relative"),
    ("drift/constant_share", "share of that shift common to all passages"),
)
