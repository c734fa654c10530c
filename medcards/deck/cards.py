"""Cards: their schema, cleaning, relevant answers, reading and writing.

A table of cards has the columns:

``card_id``    16 hex digits, a hash of question and answer
``question``, ``answer``    clean text
``group``      name of the group of cards that stay in one split, see :mod:`medcards.deck.splits`
``concept``    id of the concept that the source names (an ontology term's id), or empty
``branch``     name of the one top-level branch of the ontology that holds the concept, or empty
``query_set``  ``own`` for the deck's own questions, whose answers are searched;
               ``layperson`` for everyday wordings of a concept that the deck already defines
``source``     name of the source that the card was read from
"""

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Literal

import pandas as pd

from medcards import InputError
from medcards.base.files import read_json, write_json
from medcards.deck.markup import without_clozes, without_html, without_media

CARD_COLUMNS = ["card_id", "question", "answer", "group", "concept", "branch", "query_set", "source"]
SPLITS = ["train", "validation", "test"]
AskedSplit = Literal["validation", "test"]
"""A split whose questions are asked: validation questions choose, test questions only report."""
CLEANING_EXAMPLES = 5
"""Number of example rows that :func:`clean` returns for each reason."""
# Characters that no reader sees and no tokenizer expects: control characters that are not white space, soft hyphens,
# zero-width spaces and marks of direction. The joiners U+200C and U+200D stay, because they change how a word is read.
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u2060\ufeff]")


def clean(raw: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int], pd.DataFrame]:
    """Clean raw cards.

    Pictures and sounds of flashcard programs are removed, HTML becomes text, and cloze deletions are filled in (see
    :mod:`medcards.deck.markup`). Invisible characters are removed, Unicode is brought to NFC, and white space becomes
    single spaces. Rows with a blank side and exact duplicates are dropped.

    Parameters
    ----------
    raw : table of a reader in :mod:`medcards.deck.sources`.

    Returns
    -------
    cards : table of cards without ``group``, which :func:`medcards.deck.splits.group_cards` finds.
    counts : numbers of rows read, changed by reason, dropped by reason, and kept; read = dropped + kept.
    examples : the first :data:`CLEANING_EXAMPLES` rows of each reason, with the columns ``reason``, ``row`` (from 1),
        and ``question`` and ``answer`` before cleaning.

    Raises
    ------
    InputError : no usable row is left.
    """
    steps = {
        "changed_media": without_media,
        "changed_html": without_html,
        "changed_cloze": without_clozes,
        "changed_invisible": lambda text: _INVISIBLE.sub("", text),
        "changed_unicode": lambda text: unicodedata.normalize("NFC", text),
        "changed_whitespace": lambda text: " ".join(text.split()),
    }
    texts, found = raw[["question", "answer"]], {}
    for reason, step in steps.items():
        changed = texts.map(step)
        found[reason] = (changed != texts).any(axis=1)
        texts = changed
    reasons = {f"dropped_{reason}": raw["drop"] == reason for reason in raw["drop"].unique() if reason}
    reasons |= {f"dropped_blank_{side}": texts[side] == "" for side in texts}
    kept = pd.Series(True, index=raw.index)
    for reason, rows in reasons.items():
        found[reason] = rows & kept  # a row counts under its first reason only
        kept &= ~rows
    found["dropped_duplicate"] = texts[kept].duplicated().reindex(raw.index, fill_value=False)
    kept &= ~found["dropped_duplicate"]

    counts = {"rows_read": len(raw)} | {reason: int(rows.sum()) for reason, rows in found.items()}
    counts["kept"] = int(kept.sum())
    if not kept.any():
        raise InputError(f"no usable row among the {len(raw)} read: every question or answer is blank")
    numbered = raw[["question", "answer"]].rename_axis("row").reset_index().assign(row=lambda table: table.row + 1)
    examples = pd.concat(
        [numbered[rows].head(CLEANING_EXAMPLES).assign(reason=reason) for reason, rows in found.items()]
    )
    cards = raw.drop(columns="drop").assign(question=texts.question, answer=texts.answer)[kept].reset_index(drop=True)
    pairs = zip(cards.question, cards.answer, strict=True)
    cards.insert(0, "card_id", [card_id(question, answer) for question, answer in pairs])
    return cards, counts, examples


def card_id(question: str, answer: str) -> str:
    """The stable id of a card: 16 hex digits of the sha256 of its clean question and answer."""
    return hashlib.sha256(f"{question}\x1f{answer}".encode()).hexdigest()[:16]


def card_text(question: str, answer: str) -> str:
    """The text of a card for a model that reads question and answer as one text.

    >>> card_text("What is gout?", "A disease of the joints.")
    'What is gout? A disease of the joints.'
    """
    return f"{question} {answer}"


def corpus(cards: pd.DataFrame) -> pd.DataFrame:
    """The cards whose answers are searched: those of the query set ``own``, which hold one answer per concept."""
    return cards[cards.query_set == "own"].reset_index(drop=True)


def sample(cards: pd.DataFrame, split: str, count: int, seed: int, query_set: str = "") -> pd.DataFrame:
    """A seeded sample of the cards of one split, in the order of the table.

    Parameters
    ----------
    count : the largest number of cards in the sample.
    query_set : the query set to draw from; empty for all cards of the split.
    """
    rows = cards[cards.split == split]
    if query_set:
        rows = rows[rows.query_set == query_set]
    return rows.sample(min(count, len(rows)), random_state=seed).sort_index().reset_index(drop=True)


def save_cards(cards: pd.DataFrame, folder: Path, material: dict) -> None:
    """Write one Parquet file per split, in the order of the table, and last a manifest.

    Parameters
    ----------
    cards : table of cards with a ``split`` column.
    material : description of the deck, see :func:`medcards.deck.sources.read_deck`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        cards.loc[cards.split == split, CARD_COLUMNS].to_parquet(folder / f"{split}.parquet", index=False)
    write_json(folder / "manifest.json", {"material": material, "cards": len(cards)})


def load_cards(folder: str | Path) -> pd.DataFrame:
    """Read the cards of all splits as one table, with a ``split`` column.

    Raises
    ------
    InputError : a file is missing.
    """
    return pd.concat(
        [pd.read_parquet(_written(folder, f"{split}.parquet")).assign(split=split) for split in SPLITS],
        ignore_index=True,
    )


def read_material(folder: str | Path) -> dict:
    """Read the description of the deck that the cards in ``folder`` were made from.

    Raises
    ------
    InputError : the manifest is missing or damaged.
    """
    return read_json(_written(folder, "manifest.json"))["material"]


def _written(folder: str | Path, name: str) -> Path:
    file = Path(folder) / name
    if not file.exists():
        raise InputError(f"{file} is missing: run `dvc repro prepare`")
    return file
