"""The exam: the questions that the answering systems are asked, and what they may use."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.answers.records import AnswerParams, Answers
from medcards.base.files import read_json, sha256_of
from medcards.base.references import parse, resolve
from medcards.base.scratch import fingerprint, scratch_root
from medcards.base.workers import ComputeParams, SentFolder, Workers
from medcards.deck.cards import card_text
from medcards.llm.citations import split_citation
from medcards.llm.params import LlmParams
from medcards.search.context import nearest_training_cards
from medcards.search.exact import exact_search
from medcards.search.query_sets import QuerySet, asks_in_other_words
from medcards.search.rankings import rankings_file
from medcards.search.systems import WITH_QUESTIONS
from medcards.search.vectors import Vectors

EXAMPLES = 3
"""Number of training cards that ``base_fewshot`` has as earlier turns."""


@dataclass
class Models:
    """The base model and the tuned model, of which one is in memory at a time.

    Parameters
    ----------
    llm : the language model, with its reference pinned.
    adapter : the folder of the adapter.
    compute : the cluster where workers answer, each with a model of its own; None where this process answers.
    """

    llm: LlmParams
    adapter: Path
    compute: ComputeParams | None = None

    def __post_init__(self) -> None:
        if self.on_workers and self.llm.device == "auto":  # the same device for all, also for this process
            self.llm = self.llm.model_copy(update={"device": "cuda" if self.compute.worker_gpus else "cpu"})

    @property
    def on_workers(self) -> bool:
        """Whether workers answer."""
        return self.compute is not None and self.compute.engine == "ray"

    @property
    def device_name(self) -> str:
        """The name of the GPU of this process, ``cpu``, or that the workers have GPUs."""
        from medcards.llm.loading import device_name

        return "GPUs of workers" if self.on_workers and self.compute.worker_gpus else device_name(self.llm)

    @cached_property
    def base(self):
        """The base model."""
        from medcards.llm.loading import load_llm

        return load_llm(self.llm)[0]

    @cached_property
    def tuned(self):
        """The tuned model. The adapter is put into the loaded base."""
        from medcards.llm.loading import load_tuned, merge_if_exact

        tuned, _ = load_tuned(self.llm, self.adapter, self.base)
        del self.base  # it is changed: a system that asks for it again loads it again
        return merge_if_exact(tuned)

    def workers(self, tuned: bool) -> Workers | None:
        """The workers that answer with the tuned model, or with the base model; None where this process answers."""
        from medcards.llm.loading import check_base, load_in_worker

        own = parse(self.llm.model).kind == "path"
        places = [SentFolder(resolve(self.llm.model))] if own else []
        places += [SentFolder(self.adapter)] if tuned else []
        workers = Workers.on(self.compute, partial(load_in_worker, self.llm, own, tuned), *places)
        if workers and tuned:
            check_base(self.llm, self.adapter)
        return workers


@dataclass
class Exam:
    """The questions, and what the systems may use to answer them.

    Parameters
    ----------
    cards : the whole deck.
    questions : the cards whose questions are asked.
    vectors : the unadapted encoder's vectors of the cards.
    data : the folder that the pipeline writes; read are ``adapter`` and ``rankings``.
    models : the base model and the tuned model.
    base_fingerprint : fingerprint of the base model, see :func:`medcards.base.manifests.model_fingerprint`.
    query_set : name of the questions' query set.
    """

    cards: pd.DataFrame
    questions: pd.DataFrame
    vectors: Vectors
    data: Path
    models: Models
    params: AnswerParams
    base_fingerprint: str
    seed: int
    query_set: str = "own"

    def asked_as(self, queries: QuerySet) -> "Exam":
        """The exam with the questions of another query set."""
        return replace(self, questions=queries.cards.assign(question=queries.questions), query_set=queries.name)

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
        """The answers of the training cards whose questions are nearest to each question."""
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
        served = read_json(self.data / "rankings" / "served.json")
        questions = served["questions"] and asks_in_other_words(self.query_set)
        system = WITH_QUESTIONS if questions else served["system"]
        file = rankings_file(self.data / "rankings", self.params.split, self.query_set)
        columns = ["query", "answer", "rank"]
        ranked = pd.DataFrame(columns=columns)
        if file.exists():
            ranked = pd.read_parquet(file, columns=columns, filters=[("system", "==", system)])
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
        """The answers of :attr:`found`.

        The questions are left out, as the search leaves them out: a question of the deck would point to its own card.
        """
        return [cards.answer.tolist() for cards in self.found]

    def kept(self, tuned: bool) -> Path:
        """The folder that keeps what the model answered, so that equal inputs are computed once.

        It changes with the base model, its settings, the device, the adapter (if ``tuned``), the code in medcards/llm,
        and the packages. The names of its files change with the prompts.
        """
        adapter = self.data / "adapter"
        inputs = {
            "llm": self.models.llm.model_dump(exclude={"device"}),
            "base": self.base_fingerprint,
            "device": self.models.device_name,
        }
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
        citing: bool = False,
    ) -> Answers:
        """The language model's answers, and the likelihood of the reference answers under it.

        Where the model reads texts, the number that it cites is split off its answer.

        Parameters
        ----------
        label : the name of the system, for the progress bars.
        read : the texts that the model reads before each question.
        tuned : whether the tuned model is asked, or the base model.
        examples : the questions and answers that stand before each question as earlier turns.
        citing : whether every answer has to begin with the number of a text that was read.
        """
        from medcards.llm.generation import generate
        from medcards.llm.loading import load_tokenizer

        made = generate(
            lambda: self.models.tuned if tuned else self.models.base,
            load_tokenizer(self.models.llm),
            self.questions.question.tolist(),
            self.models.llm.system_prompt,
            self.params.max_new_tokens,
            self.params.batch_tokens,
            label,
            context=read,
            examples=examples,
            references=self.questions.answer.tolist(),
            kept=self.kept(tuned),
            citing=citing,
            workers=self.models.workers(tuned),
        )
        if examples:
            return Answers.of_model(made, [[card_text(*card) for card in cards] for cards in examples])
        answers = Answers.of_model(made, read)
        if read is None:
            return answers
        found = [split_citation(text, len(cards)) for text, cards in zip(answers.texts, read, strict=True)]
        return replace(answers, texts=[text for _, text in found], cited=[number for number, _ in found])
