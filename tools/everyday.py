"""Ask the deck the questions of docs/everyday_questions.csv, and write the answers into docs/EVERYDAY.md.

    python -m tools.everyday    # `make everyday`, after `dvc repro`

The questions, and the cards that answer them, belong to the ontology deck.
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
and the probability were changed for such questions. The authors saw the answers while they chose the search and the
evidence of the probability, so this share is too high. The authors also chose the questions. They are no sample, so the
share has no interval.

"""


def is_right(cited: str | None, expected: set[str]) -> bool:
    """Whether the concept of the cited card is expected, or none is and no card is cited.

    Parameters
    ----------
    cited : the concept, empty for a card without one; None where no card is cited.

    >>> is_right("HP:0030148", {"HP:0030148"}), is_right(None, set()), is_right("", set())
    (True, True, False)
    """
    return not expected if cited is None else cited in expected


def answered(questions: pd.DataFrame, data: Path) -> pd.DataFrame:
    """One row per question: ``right``, ``question``, ``probability``, ``answer``, ``cited card``, ``expected``.

    Raises
    ------
    InputError : the deck has no concepts, or a file is missing or damaged.
    """
    concepts = card_tables.load_cards(data / "cards").set_index("card_id").concept
    if not concepts.astype(bool).any():
        raise InputError("the cards of this deck have no concepts: these questions belong to the ontology deck")
    asker, rows = Asker.load(data), []
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
