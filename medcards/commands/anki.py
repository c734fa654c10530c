"""Write the deck, or the answers of a system, as a file for Anki.

    python -m medcards anki deck.txt
    python -m medcards anki answers.txt --system lora

Without --system, each card becomes a note. With --system, each question that the system was asked becomes a note, whose
back holds the reference and the answer. In Anki choose File, Import. Every note is tagged with the split of its card. A
file that is imported again updates the notes of the earlier import.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from medcards.commands import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", type=Path, metavar="FILE", help="file to write, such as deck.txt")
    parser.add_argument("--system", help="answering system, such as lora (default: the deck itself)")
    add_data(parser)


def run(given: argparse.Namespace) -> Iterator[str]:
    from medcards.report.anki import answer_notes, deck_notes, write_notes

    notes = answer_notes(given.data, given.system) if given.system else deck_notes(given.data)
    write_notes(notes, f"medcards::{given.system or 'deck'}", given.to)
    yield f"anki: {len(notes):,} notes in {given.to}; in Anki choose File, Import"
