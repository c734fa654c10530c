"""Ask the deck: an answer with the card that it comes from, and the cards that were found.

    python -m medcards ask "why are my teeth crooked"
    python -m medcards ask "why are my teeth crooked" --json
    python -m medcards ask "why are my teeth crooked" --model tuned
    python -m medcards ask "why are my teeth crooked" --model base --read none

The served answer is the first card, quoted, or the tuned model's wording of the cards; the stage evaluate chose it on
validation questions. [1] and a star name the card that the answer comes from. Where the deck probably has no answer,
none is given. With --model, a language model words an answer in any case; before there is an adapter, this is the base
model. From Python, `Asker.load("data")` in `medcards.answers.asker` does the same.
"""

import argparse
from collections.abc import Iterator

from medcards import InputError
from medcards.commands import add_data, silence_loading, terminal_width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", help="the question, in your own words")
    # The choices repeat MODELS and READ of medcards.answers.asker, whose import takes seconds; a test compares them.
    parser.add_argument("--model", choices=("tuned", "base"), help="a model that words an answer (default: served)")
    parser.add_argument(
        "--read", choices=("all", "training", "none"), default="all", help="cards to quote or to read (default all)"
    )
    parser.add_argument("-k", type=int, default=3, help="number of cards (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object: answer, cited card, probability")
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    silence_loading()
    from medcards.answers.asker import Asker
    from medcards.report.replies import reply_as_json, reply_as_text
    from medcards.search.searcher import check_question

    check_question(given.question, given.k)  # before any model is loaded
    if given.read == "none" and given.model is None:
        raise InputError("--read none: without a card only a model can answer; add --model tuned or --model base")
    asker = Asker.load(given.data)
    *_, reply = asker.replies(given.question, asker.find(given.question, given.k, given.read), given.model)
    yield reply_as_json(reply, asker.searcher.system) if given.json else reply_as_text(reply, terminal_width())
