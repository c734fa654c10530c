"""Take the deck to Anki: its cards, or a system's answers beside the references, as a text file that Anki imports.

    python -m medcards.report.anki deck.txt
    python -m medcards.report.anki answers.txt --system lora

In Anki: File, Import. Every card is tagged with its split; a file imported later updates the cards that came before.
"""

import argparse
import csv
import html
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from medcards import InputError
from medcards.base.files import atomic
from medcards.deck import cards as card_tables

HEAD = """#separator:tab
#html:true
#notetype:Basic
#deck:{deck}
#guid column:1
#columns:GUID\tFront\tBack\tTags
#tags column:4
"""
"""What Anki reads of a text file before its rows (Anki manual, "Text files", file headers)."""


def as_html(text: str) -> str:
    """Text as Anki shows it: what is markup in it stays text, and lines stay lines.

    >>> as_html("a < b\\nc")
    'a &lt; b<br>c'
    """
    return html.escape(text, quote=False).replace("\n", "<br>")


def deck(data: Path) -> list[tuple[str, str, str, str]]:
    """Every card of the deck: id, question, answer, split."""
    cards = card_tables.load(data / "cards")
    cards = cards[cards.query_set == "own"]
    fields = [cards.card_id, cards.question.map(as_html), cards.answer.map(as_html), cards.split]
    return list(zip(*fields, strict=True))


def answers(data: Path, system: str) -> list[tuple[str, str, str, str]]:
    """Every question that a system was asked: id, question, the reference and the system's answer, split.

    Raises
    ------
    InputError : nothing was answered yet, or not by this system.
    """
    file = data / "predictions" / "predictions.jsonl"
    if not file.exists():
        raise InputError(f"{file} is missing: run `dvc repro evaluate`")
    rows = pd.read_json(file, lines=True, dtype=False)
    if system not in (asked := rows.answers[0]):
        raise InputError(f"--system {system}: it was not asked (asked: {', '.join(asked)}); see evaluate.systems")
    return [
        (
            f"{row.card_id}-{system}",
            as_html(row.question),
            f"{as_html(row.reference)}<hr>{system}: {as_html(row.answers[system])}",
            "test",
        )
        for row in rows.itertuples()
    ]


def write(notes: Iterable[tuple[str, str, str, str]], name: str, to: Path) -> None:
    """Write notes (GUID, front, back, tag) for an Anki deck of that name."""
    with atomic(to) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(HEAD.format(deck=name))
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(notes)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.report.anki", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("to", type=Path, help="the file to write, such as deck.txt")
    parser.add_argument("--system", help="an answering system, such as lora; without one, the deck itself is written")
    parser.add_argument("--data", type=Path, default="data", help="the folder that the pipeline wrote (default data)")
    given = parser.parse_args()
    try:
        notes = answers(given.data, given.system) if given.system else deck(given.data)
    except InputError as error:
        sys.exit(f"anki: {error}")
    write(notes, f"medcards::{given.system or 'deck'}", given.to)
    print(f"anki: {len(notes):,} cards in {given.to}; in Anki: File, Import")


if __name__ == "__main__":
    main()
