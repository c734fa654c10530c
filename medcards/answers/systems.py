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

import pandas as pd

from medcards import InputError
from medcards.answers.constant import best_constant
from medcards.answers.exam import Exam
from medcards.answers.records import AnswerParams, Answers
from medcards.deck.cards import corpus
from medcards.search.query_sets import QuerySet, query_sets

OPEN_BOOK = ("search_open", "base_rag_open", "lora_rag_open")
"""The systems that answer from the cards that the served search finds in the whole deck."""
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


def open_book_sets(params: AnswerParams, cards: pd.DataFrame, seed: int) -> list[QuerySet]:
    """The query sets that the :data:`OPEN_BOOK` systems are asked, with ``params.count`` questions each, at most.

    Raises
    ------
    InputError : the deck has no query set of a name in ``params.open_book_sets``.
    """
    sets = {one.name: one for one in query_sets(cards, corpus(cards), params.split, params.count, seed)}
    if unknown := [name for name in params.open_book_sets if name not in sets]:
        raise InputError(f"answer.open_book_sets: no query set is {unknown[0]}; the deck has: {', '.join(sets)}")
    return [sets[name] for name in dict.fromkeys(params.open_book_sets)]


def all_answers(
    exam: Exam, sets: list[QuerySet], systems: dict[str, Callable[[Exam], Answers]]
) -> tuple[dict[str, Answers], pd.DataFrame]:
    """The answers of every system to the exam, and those of the :data:`OPEN_BOOK` systems to the query sets.

    One system is asked after the other, so that each model is loaded once.

    Returns
    -------
    answers : by system.
    open_book : one row per query set, question and system: ``query_set``, ``card_id``, ``question``, ``reference``,
        ``system``, ``answer``, ``cited`` (card id, empty without a citation), ``found`` (card ids, best first). Empty
        where no open-book system is asked.
    """
    exams = [exam.asked_as(queries) for queries in sets]
    answers, tables = {}, []
    for name, answer in systems.items():
        answers[name] = answer(exam)
        tables += [_open_book_rows(asked, name, answer(asked)) for asked in exams if name in OPEN_BOOK]
    return answers, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _open_book_rows(exam: Exam, system: str, answers: Answers) -> pd.DataFrame:
    """The rows of one system and query set. A system without citations quotes the first card."""
    found = [cards.index.tolist() for cards in exam.found]
    cited = [
        ids[number - 1] if number else "" for ids, number in zip(found, answers.cited or [1] * len(found), strict=True)
    ]
    asked = exam.questions[["card_id", "question"]].assign(reference=exam.questions.answer)
    return asked.assign(query_set=exam.query_set, system=system, answer=answers.texts, cited=cited, found=found)


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
    """The base model, with the first cards of the whole deck as context, one of which it has to cite."""
    return exam.ask("base_rag_open", exam.found_context, tuned=False, citing=True)


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
    """The tuned model, with the first cards of the whole deck as context, one of which it has to cite."""
    return exam.ask("lora_rag_open", exam.found_context, citing=True)


@answering_system
def oracle(exam: Exam) -> Answers:
    """The tuned model, with the card itself as context."""
    return exam.ask("oracle", [[answer] for answer in exam.questions.answer])
