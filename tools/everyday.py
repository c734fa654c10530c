"""Ask the deck the questions of docs/everyday_questions.csv, and write the answers into docs/EVERYDAY.md.

    python -m tools.everyday    # `make everyday`, after `dvc repro`

The questions, and the cards that answer them, were written down before anything was fitted that they measure. They
belong to the ontology deck.
"""

import sys
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.answers.asker import Asker
from medcards.base.files import atomic
from medcards.deck import cards as card_tables

QUESTIONS, PAGE, DATA = Path("docs/everyday_questions.csv"), Path("docs/EVERYDAY.md"), Path("data")
HEAD = """\
# Questions in everyday words

`python -m medcards ask` answers these {count} questions on the default run. `make everyday` writes this page.
{right} of {count} are right: the cited card is one of the expected cards, or the deck has none and none is given.
The questions and their expected cards ([everyday_questions.csv](everyday_questions.csv)) were written before the search
and the probability were changed for such questions. They are no sample, and the authors chose them, so that the share
has no interval.

"""


def is_right(cited: str | None, expected: set[str]) -> bool:
    """Whether the concept of the cited card is expected, or neither is there.

    >>> is_right("HP:0030148", {"HP:0030148"}), is_right(None, set()), is_right(None, {"HP:0030148"})
    (True, True, False)
    """
    return cited in expected if cited else not expected


def answered(questions: pd.DataFrame, data: Path) -> pd.DataFrame:
    """One row per question: ``right``, ``question``, ``probability``, ``answer``, ``cited card``, ``expected``."""
    asker, concepts = Asker.load(data), card_tables.load_cards(data / "cards").set_index("card_id").concept
    rows = []
    for row in questions.itertuples():
        *_, reply = asker.replies(row.question, asker.find(row.question))
        cited = concepts[reply.cited.card_id] if reply.cited else None
        rows.append(
            {
                "right": "yes" if is_right(cited, set(row.concepts.split())) else "**no**",
                "question": row.question,
                "probability": f"{reply.probability:.2f}",
                "answer": reply.text,
                "cited card": reply.cited.question if reply.cited else "-",
                "expected": row.names or "none",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    questions = pd.read_csv(QUESTIONS, keep_default_na=False)
    try:
        table = answered(questions, DATA)
    except InputError as error:
        sys.exit(f"everyday: {error}")
    right = int((table.right == "yes").sum())
    with atomic(PAGE) as temporary:
        page = HEAD.format(count=len(table), right=right) + table.to_markdown(index=False) + "\n"
        temporary.write_text(page, encoding="utf-8")
    print(f"{PAGE}: {right} of {len(table)} questions are answered right")


if __name__ == "__main__":
    main()
