"""The answering systems. Each one is a function from the exam to its answers, with the mark ``@answering_system``.

``echo``, ``constant`` and ``copy_nearest`` know nothing of the card. Their scores show how much of a metric needs no
knowledge.
``base``, ``base_fewshot`` and ``lora`` answer closed book. ``base_fewshot`` has random training cards as earlier turns:
it knows the form of an answer, and no fact of the card. So ``lora`` minus ``base_fewshot`` shows what tuning taught
beyond the form that three examples show. ``base_rag`` and ``lora_rag`` read training cards first.
``search_open``, ``base_rag_open``, ``lora_rag_open`` and ``oracle`` are open book: they may see the card itself, so
their scores measure retrieval and reading, not what was learned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.answers.constant import best_constant
from medcards.answers.records import AnswerParams, Answers
from medcards.base.files import read_json, sha256_of
from medcards.base.scratch import fingerprint, scratch_root
from medcards.deck.cards import card_text
from medcards.llm.citations import split_citation
from medcards.llm.params import LlmParams
from medcards.search.context import nearest_training_cards
from medcards.search.exact import exact_search
from medcards.search.vectors import Vectors

EXAMPLES = 3
"""Number of training cards that ``base_fewshot`` has as earlier turns."""


@dataclass
class Exam:
    """The questions, and what the systems may use to answer them.

    Parameters
    ----------
    cards : the whole deck.
    questions : the cards whose questions are asked.
    vectors : the unadapted encoder's vectors of the cards.
    data : the folder that the pipeline writes; read are ``adapter`` and ``rankings``.
    llm : the language model, with its reference pinned.
    base_fingerprint : fingerprint of the base model, see :func:`medcards.base.manifests.model_fingerprint`.
    """

    cards: pd.DataFrame
    questions: pd.DataFrame
    vectors: Vectors
    data: Path
    llm: LlmParams
    params: AnswerParams
    base_fingerprint: str
    seed: int

    @cached_property
    def train(self) -> pd.DataFrame:
        """The cards that a system may have learned from."""
        return self.cards[self.cards.split == "train"].reset_index(drop=True)

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """The row of the training question nearest to each question, and their cosine similarity."""
        asked = self.vectors.questions_of(self.questions.card_id)
        rows, scores = exact_search(asked, self.vectors.questions_of(self.train.card_id), k=1)
        return rows[:, 0], scores[:, 0]

    @cached_property
    def training_context(self) -> list[list[str]]:
        """The training cards whose questions are nearest to each question, as text."""
        return nearest_training_cards(self.questions, self.train, self.vectors, self.params.context_cards)

    @cached_property
    def examples(self) -> list[list[tuple[str, str]]]:
        """Question and answer of :data:`EXAMPLES` random training cards of the deck's own, drawn for each question."""
        own = self.train[self.train.query_set == "own"]
        cards, random = list(zip(own.question, own.answer, strict=True)), np.random.default_rng(self.seed)
        count = min(EXAMPLES, len(cards))
        return [[cards[row] for row in random.choice(len(cards), count, replace=False)] for _ in self.questions.card_id]

    @cached_property
    def found(self) -> list[pd.DataFrame]:
        """The cards that the served search ranks first for each question, at most ``params.context_cards``.

        Raises
        ------
        InputError : the stage rerank_eval ranked fewer questions than are asked.
        """
        system = read_json(self.data / "rankings" / "served.json")["system"]
        ranked = pd.read_parquet(
            self.data / "rankings" / "rankings.parquet",
            columns=["query", "answer", "rank"],
            filters=[("split", "==", self.params.split), ("query_set", "==", "own"), ("system", "==", system)],
        )
        if missing := len(set(self.questions.card_id) - set(ranked["query"])):
            count = "test_questions" if self.params.split == "test" else "questions"
            raise InputError(
                f"answer.{count}={getattr(self.params, count)}: {missing} of these questions were not ranked; raise "
                f"rerank_eval.{self.params.split}_queries to that number, or lower answer.{count}"
            )
        first = ranked[ranked["rank"] <= self.params.context_cards].sort_values("rank")
        answers, deck = first.groupby("query").answer.agg(list), self.cards.set_index("card_id")
        return [deck.loc[answers[card]] for card in self.questions.card_id]

    @cached_property
    def found_context(self) -> list[list[str]]:
        """The cards of :attr:`found`, as text."""
        return [list(map(card_text, cards.question, cards.answer)) for cards in self.found]

    @cached_property
    def base_model(self):
        """The base model."""
        from medcards.llm.loading import load_llm

        return load_llm(self.llm)[0]

    @cached_property
    def tuned_model(self):
        """The tuned model. The adapter is put into the loaded base, so that one model is in memory at a time."""
        from medcards.llm.loading import load_tuned, merge_if_exact

        tuned, _ = load_tuned(self.llm, self.data / "adapter", self.base_model)
        del self.base_model  # it is changed: a system that asks for it again loads it again
        return merge_if_exact(tuned)

    def kept(self, tuned: bool) -> Path:
        """The folder that keeps what the model answered, so that equal inputs are computed once.

        It changes with the base model, its settings, the device, the adapter (if ``tuned``), the code in medcards/llm,
        and the packages. The names of its files change with the prompts.
        """
        from medcards.llm.loading import device_name

        adapter = self.data / "adapter"
        inputs = {"llm": self.llm.model_dump(), "base": self.base_fingerprint, "device": device_name(self.llm)}
        if tuned:
            files = ("adapter_config.json", "adapter_model.safetensors")
            inputs["adapter"] = {name: sha256_of(adapter / name) for name in files}
        return scratch_root() / "answer" / fingerprint("medcards/llm", **inputs)

    def ask(
        self,
        label: str,
        read: list[list[str]] | None = None,
        tuned: bool = True,
        examples: list[list[tuple[str, str]]] | None = None,
    ) -> Answers:
        """The language model's answers, and the likelihood of the reference answers under it.

        Where the model reads texts, the number that it cites is split off its answer.

        Parameters
        ----------
        label : the name of the system, for the progress bars.
        read : the texts that the model reads before each question.
        tuned : whether the tuned model is asked, or the base model.
        examples : the questions and answers that stand before each question as earlier turns.
        """
        from medcards.llm.generation import generate
        from medcards.llm.loading import load_tokenizer

        made = generate(
            lambda: self.tuned_model if tuned else self.base_model,
            load_tokenizer(self.llm),
            self.questions.question.tolist(),
            self.llm.system_prompt,
            self.params.max_new_tokens,
            self.params.batch_tokens,
            label,
            context=read,
            examples=examples,
            references=self.questions.answer.tolist(),
            kept=self.kept(tuned),
        )
        if examples:
            return Answers.of_model(made, [[card_text(*card) for card in cards] for cards in examples])
        return _with_citations(Answers.of_model(made, read)) if read is not None else Answers.of_model(made)


def _with_citations(answers: Answers) -> Answers:
    found = [split_citation(text, len(cards)) for text, cards in zip(answers.texts, answers.read, strict=True)]
    return replace(answers, texts=[text for _, text in found], cited=[number for number, _ in found])


ANSWERING_SYSTEMS: dict[str, Callable[[Exam], Answers]] = {}
"""Every answering system by its name."""


def chosen_systems(names: list[str]) -> dict[str, Callable[[Exam], Answers]]:
    """The systems of the given names, each once.

    They come in the order of this module: those of the base model before those of the tuned model, so that each model
    is loaded once.

    Raises
    ------
    InputError : there is no system of that name.
    """
    for name in names:
        if name not in ANSWERING_SYSTEMS:
            known = ", ".join(ANSWERING_SYSTEMS)
            raise InputError(f"params.yaml: answer.systems: {name} is no answering system; known: {known}")
    return {name: answer for name, answer in ANSWERING_SYSTEMS.items() if name in names}


def answering_system(function: Callable[[Exam], Answers]) -> Callable[[Exam], Answers]:
    """Add a function to :data:`ANSWERING_SYSTEMS` under its own name."""
    ANSWERING_SYSTEMS[function.__name__] = function
    return function


@answering_system
def echo(exam: Exam) -> Answers:
    """The question as its own answer."""
    return Answers(exam.questions.question.tolist())


@answering_system
def constant(exam: Exam) -> Answers:
    """The one training answer with the best mean token F1 against the other training answers."""
    return Answers([best_constant(exam.train.answer, exam.seed)] * len(exam.questions))


@answering_system
def copy_nearest(exam: Exam) -> Answers:
    """The answer of the nearest training question, by the unadapted bi-encoder."""
    return Answers(exam.train.answer.iloc[exam.nearest[0]].tolist())


@answering_system
def base(exam: Exam) -> Answers:
    """The base language model, closed book."""
    return exam.ask("base", tuned=False)


@answering_system
def base_fewshot(exam: Exam) -> Answers:
    """The base model, after random training cards as earlier turns."""
    return exam.ask("base_fewshot", tuned=False, examples=exam.examples)


@answering_system
def base_rag(exam: Exam) -> Answers:
    """The base model, with the nearest training cards as context."""
    return exam.ask("base_rag", exam.training_context, tuned=False)


@answering_system
def base_rag_open(exam: Exam) -> Answers:
    """The base model, with the first cards of the whole deck as context."""
    return exam.ask("base_rag_open", exam.found_context, tuned=False)


@answering_system
def lora(exam: Exam) -> Answers:
    """The tuned language model, closed book."""
    return exam.ask("lora")


@answering_system
def lora_rag(exam: Exam) -> Answers:
    """The tuned model, with the nearest training cards as context."""
    return exam.ask("lora_rag", exam.training_context)


@answering_system
def search_open(exam: Exam) -> Answers:
    """The answer of the first card that the served search finds in the whole deck."""
    return Answers([cards.answer.iloc[0] for cards in exam.found])


@answering_system
def lora_rag_open(exam: Exam) -> Answers:
    """The tuned model, with the first cards of the whole deck as context."""
    return exam.ask("lora_rag_open", exam.found_context)


@answering_system
def oracle(exam: Exam) -> Answers:
    """The tuned model, with the card itself as context."""
    cards = exam.questions
    return exam.ask("oracle", [[card_text(*card)] for card in zip(cards.question, cards.answer, strict=True)])
