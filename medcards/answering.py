"""The answering systems: each takes the questions and gives one answer to each.

``echo`` and ``copy_nearest`` know nothing of the card: whatever they score, a metric gives away for free.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from peft import PeftConfig, PeftModel
from pydantic import PositiveInt

from medcards import InputError
from medcards.ann import exact_search
from medcards.encoder import Embeddings
from medcards.llm import LlmParams, generate, load_llm
from medcards.params import Block


class EvaluateParams(Block):
    """How many questions are answered, and how, see params.yaml."""

    questions: PositiveInt
    max_new_tokens: PositiveInt
    batch_size: PositiveInt


@dataclass
class Exam:
    """The questions, and what the systems may use to answer them."""

    questions: pd.DataFrame
    train: pd.DataFrame
    embeddings: Embeddings
    adapter: Path
    llm: LlmParams
    params: EvaluateParams

    @cached_property
    def model(self) -> tuple:
        """The base model, with the adapter that can be switched off, and its tokenizer; loaded once."""
        tuned_on = PeftConfig.from_pretrained(self.adapter).base_model_name_or_path
        if tuned_on != self.llm.model:  # a branch of the hub that moved since
            raise InputError(f"the adapter belongs to {tuned_on}, not to {self.llm.model}: run `dvc repro -f finetune`")
        base, tokenizer = load_llm(self.llm)
        return PeftModel.from_pretrained(base, self.adapter), tokenizer


def echo(exam: Exam) -> list[str]:
    """The question as its own answer."""
    return exam.questions.question.tolist()


def copy_nearest(exam: Exam) -> list[str]:
    """The answer of the nearest training question, by the bi-encoder."""
    asked = exam.embeddings.questions_of(exam.questions.card_id)
    rows, _ = exact_search(asked, exam.embeddings.questions_of(exam.train.card_id), k=1)
    return exam.train.answer.iloc[rows[:, 0]].tolist()


def base(exam: Exam) -> list[str]:
    """The language model as it came."""
    with exam.model[0].disable_adapter():
        return _generate(exam, "base")


def lora(exam: Exam) -> list[str]:
    """The language model with the adapter that finetune trained."""
    return _generate(exam, "lora")


def _generate(exam: Exam, label: str) -> list[str]:
    questions, params = exam.questions.question.tolist(), exam.params
    return generate(*exam.model, questions, exam.llm, params.max_new_tokens, params.batch_size, label)


SYSTEMS: dict[str, Callable[[Exam], list[str]]] = {
    "echo": echo,
    "copy_nearest": copy_nearest,
    "base": base,
    "lora": lora,
}
