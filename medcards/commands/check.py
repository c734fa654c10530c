"""Check a deck, and print the commands that search and run it.

    python -m medcards check decks/mine.csv
    python -m medcards check decks/mine.csv --question front --answer back

The command reads, cleans, groups and splits the whole deck as the prepare stage does, with the params.yaml of this
folder. It prints what the deck holds and which rows would be dropped. It changes no file. If the pipeline would refuse
the deck, it prints one line with the reason and ends with exit status 1.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("deck", type=Path, help="JSON, JSONL, CSV or Parquet file")
    parser.add_argument("--question", default="", metavar="COLUMN", help="column of the questions")
    parser.add_argument("--answer", default="", metavar="COLUMN", help="column of the answers")


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.base.params import Seed, read_params
    from medcards.deck.check import check_deck, run_command
    from medcards.deck.splits import PrepareParams

    seed, params = read_params("params.yaml", seed=Seed, prepare=PrepareParams)
    findings, overrides = check_deck(given.deck, given.question, given.answer, seed, params)
    yield from findings
    yield f"\nTo search it:\n\n    {run_command([*overrides, 'reranker.model=none'], 'rerank_eval')}"
    yield '    python -m medcards search "what do I want to know"'
    yield "\nREPORT.md and metrics/ keep the last whole run until the next command has run."
    yield f"\nTo tune a language model on it as well, and measure everything:\n\n    {run_command(overrides)}"
