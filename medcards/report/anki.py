"""Cards and answers as notes in a text file that Anki imports."""

import csv
import html
from collections.abc import Iterable
from pathlib import Path

from medcards import InputError
from medcards.answers.records import read_answers
from medcards.base.files import atomic
from medcards.deck import cards as card_tables
from medcards.report.render import FORMULA_SIGNS

HEADER = """#separator:tab
#html:true
#notetype:Basic
#deck:{deck}
#guid column:1
#columns:GUID\tFront\tBack\tTags
#tags column:4
"""
"""Header of a text file for Anki (Anki manual, "Text files", file headers)."""
Note = tuple[str, str, str, str]
"""GUID, front, back and tag."""


def as_html(text: str) -> str:
    """Plain text as HTML: markup, also that of Anki, is shown as text, and line breaks are kept.

    A first sign that a spreadsheet takes for the start of a formula becomes a character reference.

    >>> as_html("a < b\\nc"), as_html("=1+1"), as_html("[sound:a.mp3]")
    ('a &lt; b<br>c', '&#61;1+1', '&#91;sound:a.mp3]')
    """
    escaped = html.escape(text, quote=False).replace("\n", "<br>").replace("[", "&#91;").replace("\\(", "\\&#40;")
    return f"&#{ord(text[0])};{escaped[1:]}" if text.startswith(FORMULA_SIGNS) and text[0] != "\n" else escaped


def deck_notes(data: Path) -> list[Note]:
    """One note per card of the deck: card id, question, answer, split."""
    cards = card_tables.corpus(card_tables.load_cards(data / "cards"))
    fields = [cards.card_id, cards.question.map(as_html), cards.answer.map(as_html), cards.split]
    return list(zip(*fields, strict=True))


def answer_notes(data: Path, system: str) -> list[Note]:
    """One note per question that a system answered: id, question, reference and answer, split.

    Raises
    ------
    InputError : there are no answers yet, or none of this system.
    """
    rows = read_answers(data / "answers")
    if system not in (asked := rows.answers[0]):
        raise InputError(f"--system {system} was not asked (asked: {', '.join(asked)}); see answer.systems")
    return [
        (
            f"{row.card_id}-{system}",
            as_html(row.question),
            f"{as_html(row.reference)}<hr>{system}: {as_html(row.answers[system])}",
            "test",
        )
        for row in rows.itertuples()
    ]


def write_notes(notes: Iterable[Note], deck: str, to: Path) -> None:
    """Write notes for an Anki deck of that name."""
    with atomic(to) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(HEADER.format(deck=deck))
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(notes)
