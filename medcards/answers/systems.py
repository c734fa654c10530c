"""The answering systems: each is one function from the exam to its answers, which SYSTEMS lists.

``echo``, ``constant`` and ``copy_nearest`` know nothing of the card: whatever they score, a metric gives away for free.
The open systems and the oracle may see the card itself: their scores say what retrieval gives, not what was learned.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from peft import PeftConfig, PeftModel
from pydantic import Field, PositiveInt, field_validator
from sklearn.feature_extraction.text import CountVectorizer

from medcards import InputError
from medcards.answers.scores import tokens
from medcards.base.manifests import model_folder
from medcards.base.params import Block
from medcards.llm.generation import answer_nll, generate
from medcards.llm.loading import LlmParams, load_llm
from medcards.search.context import nearest_training_cards
from medcards.search.encoder import Embeddings, encode, load_encoder
from medcards.search.index import exact_search
from medcards.search.searcher import Searcher

CONSTANTS = 1000
"""Training answers that the constant is chosen among; all are compared with all."""


class EvaluateParams(Block):
    """Which systems answer how many questions, and how, see params.yaml."""

    systems: list[str] = Field(min_length=1)
    questions: PositiveInt
    max_new_tokens: PositiveInt
    batch_size: PositiveInt
    context_cards: PositiveInt

    @field_validator("systems")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in SYSTEMS:
                raise ValueError(f"{name} is no answering system; known: {', '.join(SYSTEMS)}")
        return list(dict.fromkeys(names))


@dataclass
class Answers:
    """What a system gives: a text for each question, and of language models what else there is to say.

    ``read`` holds the texts that it read before each question; ``truncated`` whether the answer hit the token limit;
    ``nll`` the negative log-likelihood of each reference answer, in nats per token.
    """

    texts: list[str]
    read: list[list[str]] | None = None
    truncated: list[bool] | None = None
    nll: list[float] | None = None


@dataclass
class Exam:
    """The questions, and what the systems may use to answer them.

    Parameters
    ----------
    cards : the whole deck; questions : the cards that are asked.
    data : the folder that the pipeline wrote.
    scratch : keeps answers of a run that is killed.
    """

    cards: pd.DataFrame
    questions: pd.DataFrame
    embeddings: Embeddings
    data: Path
    scratch: Path
    llm: LlmParams
    params: EvaluateParams
    seed: int

    @cached_property
    def train(self) -> pd.DataFrame:
        """The cards that a system may have learned from."""
        return self.cards[self.cards.split == "train"].reset_index(drop=True)

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each question the row of the nearest training question, and their cosine similarity."""
        asked = self.embeddings.questions_of(self.questions.card_id)
        rows, scores = exact_search(asked, self.embeddings.questions_of(self.train.card_id), k=1)
        return rows[:, 0], scores[:, 0]

    @cached_property
    def encoder(self):
        """The bi-encoder of the search, by which answers are compared as well."""
        return load_encoder(model_folder(self.data / "encoder"))

    @cached_property
    def references(self) -> np.ndarray:
        """Unit vectors of the reference answers."""
        return encode(self.encoder, self.questions.answer.tolist(), self.params.batch_size)

    @cached_property
    def found(self) -> list[list]:
        """The best cards of the whole deck for each question, found as a user of the served search would."""
        return Searcher.load(self.data).search_all(self.questions.question.tolist(), self.params.context_cards)

    @cached_property
    def model(self) -> tuple:
        """The base model, with the adapter that can be switched off, and its tokenizer; loaded once."""
        adapter = self.data / "adapter"
        tuned_on = PeftConfig.from_pretrained(adapter).base_model_name_or_path
        if tuned_on != self.llm.model:  # a branch of the hub that moved since
            raise InputError(f"the adapter belongs to {tuned_on}, not to {self.llm.model}: run `dvc repro -f finetune`")
        base, tokenizer = load_llm(self.llm)
        return PeftModel.from_pretrained(base, adapter), tokenizer

    def ask(self, label: str, read: list[list[str]] | None = None, tuned: bool = True) -> Answers:
        """The model's answers after what it reads, with or without the adapter; how likely the references are to it."""
        model, tokenizer = self.model
        asked, references = self.questions.question.tolist(), self.questions.answer.tolist()
        params, prompt = self.params, self.llm.system_prompt
        with nullcontext() if tuned else model.disable_adapter():
            sizes = params.max_new_tokens, params.batch_size
            made = generate(model, tokenizer, asked, prompt, *sizes, label, read, self.scratch / label)
            likelihood = params.batch_size, f"{label}: likelihood", read
            nll = answer_nll(model, tokenizer, asked, references, prompt, *likelihood)
        return Answers([answer.text for answer in made], read, [answer.truncated for answer in made], nll)


def echo(exam: Exam) -> Answers:
    """The question as its own answer."""
    return Answers(exam.questions.question.tolist())


def constant(exam: Exam) -> Answers:
    """The one training answer that scores the best token F1 on average over the training questions."""
    return Answers([best_constant(exam.train.answer, exam.seed)] * len(exam.questions))


def copy_nearest(exam: Exam) -> Answers:
    """The answer of the nearest training question, by the bi-encoder."""
    return Answers(exam.train.answer.iloc[exam.nearest[0]].tolist())


def search_open(exam: Exam) -> Answers:
    """The answer of the best card of the whole deck."""
    return Answers([hits[0].answer if hits else "" for hits in exam.found])


def base(exam: Exam) -> Answers:
    """The language model as it came, closed book."""
    return exam.ask("base", tuned=False)


def lora(exam: Exam) -> Answers:
    """The language model with the adapter that finetune trained, closed book."""
    return exam.ask("lora")


def base_rag(exam: Exam) -> Answers:
    """The language model as it came, with the nearest training cards to read."""
    return exam.ask("base_rag", training_cards(exam), tuned=False)


def lora_rag(exam: Exam) -> Answers:
    """The tuned model with the nearest training cards to read."""
    return exam.ask("lora_rag", training_cards(exam))


def lora_rag_open(exam: Exam) -> Answers:
    """The tuned model with the best cards of the whole deck to read."""
    return exam.ask("lora_rag_open", [[f"{hit.question} {hit.answer}" for hit in hits] for hits in exam.found])


def oracle(exam: Exam) -> Answers:
    """The tuned model with the card itself to read."""
    return exam.ask("oracle", [[text] for text in exam.questions.question + " " + exam.questions.answer])


def training_cards(exam: Exam) -> list[list[str]]:
    """The training cards whose questions lie nearest."""
    return nearest_training_cards(exam.questions, exam.train, exam.embeddings, exam.params.context_cards)


_ALL = (echo, constant, copy_nearest, base, lora, base_rag, lora_rag, search_open, lora_rag_open, oracle)
SYSTEMS: dict[str, Callable[[Exam], Answers]] = {system.__name__: system for system in _ALL}


def best_constant(answers: pd.Series, seed: int) -> str:
    """Of a seeded sample of answers the one with the highest mean token F1 against the others.

    >>> best_constant(pd.Series(["a cyst", "pain", "a cyst of the kidney"]), seed=0)
    'a cyst'
    """
    answers = answers.drop_duplicates()
    answers = answers.sample(min(CONSTANTS, len(answers)), random_state=seed).sort_index()
    bags = CountVectorizer(analyzer=tokens, dtype=np.float32).fit_transform(answers)
    common = sum(
        ((bags >= times).astype(np.float32) @ (bags >= times).astype(np.float32).T).toarray()
        for times in range(1, int(bags.max()) + 1)
    )
    lengths = np.asarray(bags.sum(axis=1))
    f1 = 2 * common / np.maximum(lengths + lengths.T, 1)
    np.fill_diagonal(f1, 0)
    return answers.iloc[int(f1.mean(axis=0).argmax())]
