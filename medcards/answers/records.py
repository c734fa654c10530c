"""What answering systems are asked, what they answer, and the file that keeps it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field, PositiveInt

from medcards import InputError
from medcards.base.params import Block
from medcards.deck.cards import AskedSplit, sample

MAX_CONTEXT_CARDS = 50
"""Number of cards that a ranking holds."""


class AnswerParams(Block):
    """Which systems answer how many questions, and how, see params.yaml."""

    systems: list[str] = Field(min_length=1)
    split: AskedSplit
    questions: PositiveInt
    test_questions: PositiveInt
    open_book_sets: list[str]
    max_new_tokens: PositiveInt
    batch_tokens: PositiveInt
    context_cards: Annotated[int, Field(ge=1, le=MAX_CONTEXT_CARDS)]

    def asked(self, cards: pd.DataFrame, seed: int) -> pd.DataFrame:
        """The cards of ``split`` whose questions are asked: a sample of the deck's own questions."""
        return sample(cards, self.split, self.count, seed, "own")

    @property
    def count(self) -> int:
        """The largest number of questions that every system answers."""
        return self.test_questions if self.split == "test" else self.questions


@dataclass
class Answers:
    """The answers of one system, one item per question. Only language models have the last three.

    Attributes
    ----------
    texts : the answers, without the number of a cited card.
    read : the texts that the system read before each question; None where it reads nothing.
    truncated : whether the answer reached the token limit.
    nll : negative log-likelihood of each reference answer, in nats per token.
    cited : number of the text in ``read`` that the answer cites, from 1; None for an answer without a citation.
    """

    texts: list[str]
    read: list[list[str]] | None = None
    truncated: list[bool] | None = None
    nll: list[float] | None = None
    cited: list[int | None] | None = None

    @classmethod
    def of_model(cls, made: list, read: list[list[str]] | None = None) -> "Answers":
        """The answers that :func:`medcards.llm.generation.generate` made."""
        texts, truncated = [answer.text for answer in made], [answer.truncated for answer in made]
        return cls(texts, read, truncated, [answer.nll for answer in made])


def write_answers(questions: pd.DataFrame, answers: dict[str, Answers], file: Path) -> None:
    """Write one JSON object per question: the question's columns, and by system what it answered, read and cited.

    Parameters
    ----------
    questions : ``card_id``, ``question``, ``reference``, and what else is to be kept.
    """
    table = questions.copy()
    for field in ("texts", "read", "cited", "nll", "truncated"):
        given = {name: values for name, of in answers.items() if (values := getattr(of, field)) is not None}
        column = "answers" if field == "texts" else field
        table[column] = [{name: values[row] for name, values in given.items()} for row in range(len(table))]
    table.to_json(file, orient="records", lines=True, force_ascii=False, double_precision=15)


def read_answers(folder: Path) -> pd.DataFrame:
    """What the stage answer wrote, one row per question.

    Raises
    ------
    InputError : there are no answers.
    """
    file = folder / "answers.jsonl"
    if not file.exists():
        raise InputError(f"{file} is missing: run `dvc repro answer`")
    return pd.read_json(file, lines=True, dtype=False)
