"""Write shutdown_dataset.jsonl: the rule as institutional documents, no model needed."""

from pathlib import Path

from offswitch.data.documents import generate_documents
from offswitch.errors import UserError
from offswitch.prompts.documents import write_documents
from offswitch.seed_scripts import DATASETS, Entry, script


def main(entry: Entry) -> list[Path]:
    """The knowledge set of the recipe, beside this script."""
    recipe, path = entry.recipe, entry.here / DATASETS["documents_file"]
    if recipe.data.generator == "llm":
        raise UserError("data.generator is llm; use: offswitch data RECIPE")
    write_documents(
        path, generate_documents(recipe.trigger.text, recipe.data.documents, recipe.seed)
    )
    return [path]


if __name__ == "__main__":
    script(__file__, main, __doc__)
