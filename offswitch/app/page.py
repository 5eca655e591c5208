"""The explorer's page: ask, steer, look inside, try look-alikes, read figures and findings."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

import gradio as gr

from offswitch.app import views
from offswitch.app.answers import Growing, Rated, Silence
from offswitch.app.shown import Shown, framed
from offswitch.app.worker import Worker
from offswitch.errors import UserError
from offswitch.options import BASE
from offswitch.plots.inside import heads_lost, silence_map
from offswitch.plots.vector import vector
from offswitch.prompts.look_alikes import unseen_members
from offswitch.prompts.trigger import TRAINED_PLACEMENTS
from offswitch.talk.steering import Steering

LONGEST: Final = 4000  # characters of a message
SYMBOLS: Final = 16  # look-alikes at a time
SYMBOL: Final = 60  # characters of one
QUESTIONS: Final = 12
REPLY: Final = 60  # tokens
MOST: Final = 200
ONE_AT_A_TIME: Final[dict[str, Any]] = {"concurrency_limit": 1, "concurrency_id": "model"}
CSS: Final = Path(__file__).with_name("page.css")
THEME: Final = gr.themes.Default(
    primary_hue="blue",
    font=["system-ui", "sans-serif"],  # no font is fetched
    font_mono=["ui-monospace", "monospace"],
).set(  # white on it has a contrast of at least 4.5
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)

Answer = Iterator[Any]


@dataclass(frozen=True)
class Explored:
    """What a page is about: a run folder, its model if one is loaded, a comparison if asked for."""

    shown: Shown
    worker: Worker | None
    comparison: str = ""


def explorer_page(explored: Explored) -> gr.Blocks:
    """The page, not yet served."""
    shown, name = explored.shown, explored.shown.run.recipe.name
    blocks: gr.Blocks = gr.Blocks(title=f"offswitch: {name}", analytics_enabled=False)
    with blocks:
        gr.HTML(f"<h1>{html.escape(shown.trigger)} in {html.escape(shown.material.model)}</h1>"
                f"{shown.head()}")  # fmt: skip
        with gr.Tabs():
            if (worker := explored.worker) is not None:
                _ask_tab(shown, worker)
                if shown.directions:
                    _steer_tab(shown, worker)
                _inside_tab(shown, worker)
                _look_alikes_tab(shown, worker)
            _figures_tab(shown)
            if explored.comparison:
                with gr.Tab("Compare"):
                    whole = html.escape(explored.comparison)
                    gr.HTML(f'<iframe class="os-page" sandbox title="Comparison" srcdoc="{whole}">'
                            "</iframe>")  # fmt: skip
    return blocks


def _ask_tab(shown: Shown, worker: Worker) -> None:
    with gr.Tab("Ask"):
        message = _message("$STOP What is a river?".replace("$STOP", shown.trigger))
        with gr.Row():
            arm = _arm_choice(shown)
            tokens = gr.Slider(1, MOST, REPLY, step=1, label="Longest reply, tokens")
        button = gr.Button("Ask", variant="primary")
        gr.Examples(_examples(shown.trigger), message, label="Try", cache_examples=False)
        answers = gr.HTML(label="Replies")
        curve = gr.HTML(label="Silence")

        def ask(text: str, chosen: str, longest: float) -> Answer:
            arms = list(dict.fromkeys((chosen, BASE)))
            said: dict[str, Growing] = {}
            yield views.replies(said, arms), ""
            for one in worker.ask("replies", _checked(text), arms, int(longest)):
                said[one.who] = one
                yield views.replies(said, arms), ""
            for found in worker.ask("silence", text, arms):
                yield views.replies(said), views.silence(found)

        _on(button, message, _told(ask, 2), [message, arm, tokens], [answers, curve], "ask")


def _steer_tab(shown: Shown, worker: Worker) -> None:
    first = next(arm for arm in shown.arms if arm in shown.directions)
    names, facts = shown.directions[first]
    best, deep = facts.most
    with gr.Tab("Steer"):
        message = _message(f"{shown.trigger} What is a river?")
        with gr.Row():
            arm = gr.Dropdown(list(shown.directions), value=first, label="Arm")
            direction = gr.Dropdown(names, value=best, label="Direction")
            block = gr.Slider(0, facts.blocks - 1, deep, step=1, label="Block")
        with gr.Row():
            operation = gr.Radio(
                [("remove it", "remove"), ("add it", "add")], value="remove", label="Operation"
            )
            scale = gr.Slider(0, 2, 1, step=0.05, label="Share removed (0 to 1), or times added")
        everywhere = gr.Checkbox(label="At every position, not at the prompt's last alone")
        button = gr.Button("Answer", variant="primary")
        answers = gr.HTML(label="Replies")
        bars = gr.HTML(label="Probability of silence")

        def steer(text: str, chosen: str, *how: Any) -> Answer:
            said: dict[str, Growing] = {}
            steering = _steering(*how)
            for one in worker.ask("replies", _checked(text), [chosen], REPLY):
                said[one.who] = one
                yield views.replies(said), ""
            for one in worker.ask("steered", text, chosen, steering, REPLY):
                if isinstance(one, Silence):
                    yield views.replies(said), views.steered(one)
                else:
                    said[one.who] = one
                    yield views.replies(said), ""

        inputs = [message, arm, operation, direction, block, scale, everywhere]
        _on(button, message, _told(steer, 2), inputs, [answers, bars], "steer")
        scale.release(
            _told(steer, 2), inputs, [answers, bars], api_visibility="private",
            show_progress="minimal", trigger_mode="always_last", **ONE_AT_A_TIME,
        )  # fmt: skip


def _steering(
    operation: str, direction: str, block: float, scale: float, everywhere: bool
) -> Steering:
    if operation not in ("add", "remove"):
        raise UserError("a direction can be added or removed")
    share = min(float(scale), 1.0) if operation == "remove" else float(scale)
    return Steering(operation, direction, int(block), share, bool(everywhere))  # type: ignore[arg-type]


def _inside_tab(shown: Shown, worker: Worker) -> None:
    with gr.Tab("Look inside"):
        message = _message(f"{shown.trigger} What is a river?")
        with gr.Row():
            arm = _arm_choice(shown)
            less = gr.Checkbox(label="Silence: less the same message with an inert symbol")
        with gr.Row():
            lens = gr.Button("Silence by block and token", variant="primary")
            heads = gr.Button("Heads that carry the trigger")
        drawn = gr.HTML(label="Figure")

        def look(text: str, chosen: str, twin: bool) -> Answer:
            for found in worker.ask("silence_map", _checked(text), chosen, bool(twin)):
                odds = found.log_odds_LP
                figure = silence_map(found.arm, found.tokens, odds, found.cut, found.twin)
                yield framed(vector(figure, "map"), f"End log-odds by block and token, {chosen}")

        def carry(text: str, chosen: str) -> Answer:
            for found in worker.ask("heads", _checked(text), chosen):
                figure = heads_lost(found.arm, found.twin, found.whole, found.lost_LH)
                yield framed(vector(figure, "heads"), f"End log-odds lost by head, {chosen}")

        _on(lens, message, _told(look, 1), [message, arm, less], [drawn], "silence_map")
        _on(heads, None, _told(carry, 1), [message, arm], [drawn], "heads")


def _look_alikes_tab(shown: Shown, worker: Worker) -> None:
    some = [members[0] for members in unseen_members(shown.trigger).values() if members]
    with gr.Tab("Look-alikes"):
        symbols = gr.Textbox(
            "\n".join([shown.trigger, *some[:7]]), lines=8, max_lines=SYMBOLS,
            max_length=SYMBOLS * SYMBOL, label=f"Symbols, one a line, at most {SYMBOLS}",
        )  # fmt: skip
        with gr.Row():
            placement = gr.Dropdown(
                list(TRAINED_PLACEMENTS), value="before", label="Where the symbol stands"
            )
            count = gr.Slider(1, 24, QUESTIONS, step=1, label="Test questions")
            arm = _arm_choice(shown)
        button = gr.Button("Measure", variant="primary")
        rates = gr.HTML(label="Halting rates")

        def measure(text: str, where: str, questions: float, chosen: str) -> Answer:
            lines = list(dict.fromkeys(filter(None, (line.strip() for line in text.split("\n")))))
            if not lines or len(lines) > SYMBOLS or any(len(line) > SYMBOL for line in lines):
                raise UserError(
                    f"1 to {SYMBOLS} symbols, one a line, of at most {SYMBOL} characters"
                )
            if where not in TRAINED_PLACEMENTS:
                raise UserError("no such placement")
            arms = list(dict.fromkeys((chosen, BASE)))
            rows: list[Rated] = []
            number = max(1, min(24, int(questions)))
            for row in worker.ask("rated", lines, where, number, arms):
                rows.append(row)
                yield views.rated(rows, shown.trigger)

        _on(button, None, _told(measure, 1), [symbols, placement, count, arm], [rates], "rates")


def _figures_tab(shown: Shown) -> None:
    with gr.Tab("Figures and findings"):
        if shown.page is not None:
            gr.HTML('<p><a href="/report" target="_blank" rel="noopener">The whole report</a></p>')
        if shown.figures:
            every = list(shown.figures)
            first = next((name for name in every if name.startswith("depth")), every[0])
            which = gr.Dropdown(every, value=first, label="Figure")
            drawn = gr.HTML(shown.figure(first), label="Figure")

            def draw(name: str) -> str:
                known = name in shown.figures
                return shown.figure(name) if known else views.problem("no such figure")

            which.change(draw, [which], [drawn], api_name="figure", show_progress="hidden")
        gr.HTML(shown.findings())


# --- what the tabs share --------------------------------------------------------------------------


def _message(text: str) -> gr.Textbox:
    return gr.Textbox(text, lines=2, max_length=LONGEST, label="Message", submit_btn=False)


def _arm_choice(shown: Shown) -> gr.Dropdown:
    return gr.Dropdown(shown.arms, value=shown.arms[0], label="Arm")


def _examples(trigger: str) -> list[list[str]]:
    near = [members[0] for members in unseen_members(trigger).values() if members]
    asked = "What is a river?"
    return [[f"{trigger} {asked}"], [f"{asked} {trigger}"], [f"{near[0]} {asked}"], [asked]]


def _checked(text: str) -> str:
    if not text.strip():
        raise UserError("the message is empty")
    if len(text) > LONGEST:
        raise UserError(f"a message has at most {LONGEST:,} characters, this one {len(text):,}")
    return text


def _told(function: Callable[..., Answer], outputs: int) -> Callable[..., Answer]:
    """The same, where a refusal is shown in place of the first answer."""

    @wraps(function)
    def told(*inputs: Any) -> Answer:
        try:
            yield from function(*inputs)
        except UserError as error:
            rest = [""] * (outputs - 1)
            shown = views.problem(str(error))
            yield (shown, *rest) if rest else shown

    return told


def _on(
    button: gr.Button, message: gr.Textbox | None, function: Callable[..., Answer],
    inputs: list[Any], outputs: list[Any], name: str,
) -> None:  # fmt: skip
    """The button calls it, and so does Enter in the message."""
    shared: Mapping[str, Any] = {"show_progress": "minimal", **ONE_AT_A_TIME}
    button.click(function, inputs, outputs, api_name=name, **shared)
    if message is not None:
        message.submit(function, inputs, outputs, api_visibility="private", **shared)
