"""Search the deck in your own words.

    python -m medcards search "why are my teeth crooked" -k 5
    python -m medcards search "why are my teeth crooked" --json
    python -m medcards search                               # asks for questions until an empty line
    python -m medcards search - < questions.txt > hits.jsonl

With `-`, each line of the standard input is a question. Its hits are one line of JSON, written at once. A line that is
no question is named on the standard error, and the exit status is then 1.

The command uses what `dvc repro` made: the encoder, the index, the cross-encoder if the run serves one, and the
settings that were chosen on the validation questions. From Python:

    from medcards.search import Searcher
    hits = Searcher.load("data").search("why are my teeth crooked", k=5)
    print(hits[0].score, hits[0].card_id, hits[0].answer)

Each hit has `question`, `answer`, `card_id`, `source`, `score`, and `scores`, the scores of the systems behind it.
`hnsw` is the cosine similarity of question and answer, `bm25` the score of their common words, `cross_encoder` the
cross-encoder's score. `hybrid`, `hybrid_rerank` and `with_questions` only order the hits of one question.

The last line says how probable it is that the deck has an answer. JSON has it as `probability`, and `refused` tells
whether the deck probably has none. From Python: `Searcher.load("data").find(question)`.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from medcards import InputError
from medcards.commands import add_data, show_progress, silence_loading, terminal_width

log = logging.getLogger(__name__)

PROMPT = "\nquestion (an empty line ends): "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", nargs="?", help="the question, in your own words; - reads one question per line")
    parser.add_argument("-k", type=int, default=5, help="number of cards (default 5)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object: question, system, probability, hits"
    )
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.search.searcher import Searcher, check_question

    check_question("-" if given.question is None else given.question, given.k)  # before any model is loaded
    silence_loading()
    show_progress()
    show = partial(_shown, Searcher.load(given.data), given)
    if given.question is None:
        yield from map(show, iter(_typed, ""))
    elif given.question == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from _of_lines(sys.stdin, show)
    else:
        yield show(given.question)


def _shown(searcher, given: argparse.Namespace, question: str) -> str:
    """What is found for a question as text, as JSON, or as one line of JSON."""
    from medcards.report.hits import found_as_json, found_as_text

    found = searcher.find(question, given.k)
    if given.question == "-" or given.json:
        return found_as_json(question, searcher.system, found, indent=None if given.question == "-" else 2)
    return found_as_text(found, terminal_width())


def _typed() -> str:
    """The question that a person types; empty at the end of the input."""
    try:
        return input(PROMPT).strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _of_lines(lines: Iterable[str], show: Callable[[str], str]) -> Iterator[str]:
    """Show the hits of one question per line. A line that is no question is named, and the others are answered.

    Raises
    ------
    InputError : after the last line, if a line was no question.
    """
    wrong = 0
    for number, line in enumerate(lines, start=1):
        try:
            yield show(line.strip())
        except InputError as error:
            wrong += 1
            log.warning("search: line %d: %s", number, error)
    if wrong:
        raise InputError(f"lines without an answer: {wrong} of {number}")
