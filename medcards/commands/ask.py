"""Ask the deck: a model's answer and the cards that it read.

    python -m medcards ask "why are my teeth crooked"
    python -m medcards ask "why are my teeth crooked" --model base --read none

The command uses what `dvc repro` made: the served search, and the adapter on its base model. Before there is an
adapter, the base model answers. From Python, `Asker.load("data")` in `medcards.answers.asker` does the same.
"""

import argparse
import textwrap
from collections.abc import Iterator

from medcards.commands import add_data, silence_loading, terminal_width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", help="the question, in your own words")
    # The choices repeat MODELS and READ of medcards.answers.asker, whose import takes seconds; a test compares them.
    parser.add_argument("--model", choices=("tuned", "base"), default="tuned", help="who answers (default tuned)")
    parser.add_argument(
        "--read", choices=("all", "training", "none"), default="all", help="cards that it may read (default all)"
    )
    parser.add_argument("-k", type=int, default=3, help="number of cards (default 3)")
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    silence_loading()
    from medcards.answers.asker import NOT_ADVICE, Asker
    from medcards.report.hits import hits_as_text
    from medcards.search.searcher import check_question

    check_question(given.question, given.k)  # before any model is loaded
    asker = Asker.load(given.data)
    hits = asker.find(given.question, given.k, given.read)
    *_, answer = "", *asker.answer(given.question, hits, base=given.model == "base")
    name = "tuned" if asker.tuned and given.model == "tuned" else "base"
    remark = f"{asker.remark} " if asker.remark and given.model == "tuned" else ""
    yield textwrap.fill(answer, terminal_width()) or "(the answer is empty)"
    yield f"\n-- {name} model. {remark}{NOT_ADVICE}\n"
    yield hits_as_text(hits, terminal_width()) if hits else "It read no card."
