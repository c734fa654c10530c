"""Search the deck in your own words.

    python -m medcards search "why are my teeth crooked" -k 5
    python -m medcards search "why are my teeth crooked" --json

The command uses what `dvc repro` made: the encoder, the index, the cross-encoder if the run serves one, and the
settings that were chosen on the validation questions. From Python:

    from medcards.search import Searcher
    hits = Searcher.load("data").search("why are my teeth crooked", k=5)
    print(hits[0].score, hits[0].card_id, hits[0].answer)

Each hit has `question`, `answer`, `card_id`, `source`, `score`, and `scores`, the scores of the systems behind it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from medcards.commands import add_data, silence_loading, terminal_width


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", help="the question, in your own words")
    parser.add_argument("-k", type=int, default=5, help="number of cards (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object: question, served system, hits")
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.report.hits import hits_as_text
    from medcards.search.searcher import Searcher, check_question

    check_question(given.question, given.k)  # before any model is loaded
    skip_adapters()
    silence_loading()
    searcher = Searcher.load(given.data)
    hits = searcher.search(given.question, given.k)
    if given.json:
        found = {"question": given.question, "system": searcher.served.system, "hits": [asdict(hit) for hit in hits]}
        yield json.dumps(found, ensure_ascii=False, allow_nan=False, indent=2)
    else:
        yield hits_as_text(hits, terminal_width()) or "nothing found"


def skip_adapters() -> None:
    """Make transformers believe that PEFT is not installed.

    Search uses no adapter, and the import of PEFT takes a second. Only a process that does nothing but search may
    call this.
    """
    sys.modules.setdefault("peft", None)
