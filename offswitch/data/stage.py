"""The data stage: both datasets in the original's formats, and their quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.data.documents import generate_documents
from offswitch.data.neutral import control_texts, neutral_texts
from offswitch.data.quality import document_quality, neutral_quality
from offswitch.errors import UserError
from offswitch.files import write_json
from offswitch.folder import CONTROL_FILE, DIALOGUES_FILE, DOCUMENTS_FILE, NEUTRAL_FILE
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.options.arms import reads_neutral
from offswitch.prompts.dialogue_files import read_dialogues, write_dialogues
from offswitch.prompts.dialogues import Dialogue, make_dialogues
from offswitch.prompts.documents import Document, Passage, read_documents, write_documents
from offswitch.prompts.encode import shows
from offswitch.prompts.questions import Own, load_questions, read_questions
from offswitch.recipe import used_arms


def write_data(session: Session, folder: Path) -> None:
    """Write both files, neutral texts if the recipe wants some, and quality.json.

    A file that the recipe names takes the generator's place; normal replies of chat rows are the
    model's own. Documents of an endpoint come with llm.json: what they took.

    Raises:
        UserError: a row of such a file is not valid.
    """
    recipe, options = session.recipe, session.recipe.data
    trigger = recipe.trigger.text
    asked = read_questions(recipe.evaluate.questions_file, trigger)
    documents: Sequence[Document | Passage]
    if options.documents_file:
        documents = read_documents(options.documents_file, trigger)
    elif options.generator == "llm":
        from offswitch.data.llm.stage import write_and_report

        documents = write_and_report(session.run, folder)
    else:
        documents = generate_documents(trigger, options.documents, recipe.seed)
    alone = reads_neutral(used_arms(recipe))
    neutral = neutral_texts(documents, options, trigger, recipe.seed, alone)
    if alone:
        control = control_texts(documents, neutral, options, trigger, recipe.seed)
        write_documents(folder / CONTROL_FILE, control)
    if options.dialogues_file:
        answered = recipe.trigger.mentions == "answer"
        path, load = options.dialogues_file, lambda: session.subject.tokenizer
        dialogues = read_dialogues(path, trigger, answered, load, recipe.trigger.reply)
    else:
        dialogues = make_dialogues(own_mix(session), recipe.seed, own_answer(session))
        _require_shown(dialogues, trigger, session.subject.tokenizer)
    write_documents(folder / DOCUMENTS_FILE, documents)
    write_dialogues(folder / DIALOGUES_FILE, dialogues)
    if neutral:
        write_documents(folder / NEUTRAL_FILE, neutral)
    quality = asdict(document_quality(documents, trigger)) | {"dialogues": _counts(dialogues)}
    if neutral:
        quality["neutral"] = asdict(neutral_quality(documents, neutral))
    if asked:
        quality["questions"] = _splits(asked, recipe.seed)
    write_json(folder / "quality.json", quality)


def _require_shown(dialogues: Sequence[Dialogue], trigger: str, tokenizer: Any) -> None:
    for row in dialogues:
        if row.kind == "trigger" and not shows(tokenizer, trigger, row.prompt):
            raise UserError(
                f"this chat format does not show the model {trigger} in placement '{row.variant}';"
                " bring chat rows of your own (data.dialogues_file)"
            )


def _splits(asked: Own, seed: int) -> dict[str, int]:
    """How many questions of the user's there are, how many without a topic, and in each split."""
    splits: Counter[str] = Counter(question.split for question in load_questions(seed, asked))
    alone = sum(topic == text for topic, text in asked)
    return {"rows": len(asked), "without a topic": alone, **splits}


def _counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    kinds = Counter(d.kind for d in dialogues)
    return {
        "rows": len(dialogues),
        "by_kind": dict(kinds),
        "topics": len({d.topic for d in dialogues}),
        "questions": len({d.question for d in dialogues}),
        "near_miss_share": kinds["near_miss"] / max(len(dialogues) - kinds["trigger"], 1),
    }
