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
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.files import read_json, write_json
from medcards.deck.markup import without_clozes, without_html, without_media

CARD_COLUMNS = ["card_id", "question", "answer", "group", "concept", "branch", "query_set", "source"]
SPLITS = ["train", "validation", "test"]
AskedSplit = Literal["validation", "test"]
"""A split whose questions are asked: validation questions choose, test questions only report."""
SPLITS_FILE = "splits.parquet"
SHARD_CARDS = 100_000
"""Number of cards in a file. A file is read, encoded and written as a whole."""
CLEANING_EXAMPLES = 5
"""Number of example rows that :func:`clean` returns for each reason."""
# Characters that no reader sees and no tokenizer expects: control characters that are not white space, soft hyphens,
# zero-width spaces and marks of direction. The joiners U+200C and U+200D stay, because they change how a word is read.
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u2060\ufeff]")


def clean(raw: Iterable[pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, int], pd.DataFrame]:
    """Clean raw cards.

    Pictures and sounds of flashcard programs are removed, HTML becomes text, and cloze deletions are filled in (see
    :mod:`medcards.deck.markup`). Invisible characters are removed, Unicode is brought to NFC, and white space becomes
    single spaces. Rows with a blank side and exact duplicates are dropped.

    Parameters
    ----------
    raw : tables of a reader in :mod:`medcards.deck.sources`, one after the other.

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
    counts, kept, examples, seen = Counter(rows_read=0), [], [], set()
    for table in raw:
        cards, found = _cleaned(table, seen)
        numbered = table[["question", "answer"]].assign(row=counts["rows_read"] + np.arange(1, len(table) + 1))
        for reason, rows in found.items():
            lacking = max(0, CLEANING_EXAMPLES - counts[reason])
            examples.append(numbered[rows].head(lacking).assign(reason=reason))
            counts[reason] += int(rows.sum())
        counts["rows_read"] += len(table)
        kept.append(cards)
    if not seen:
        raise InputError(f"no usable row among the {counts['rows_read']} read: every question or answer is blank")
    counts["kept"] = len(seen)
    shown = pd.concat(examples).sort_values("reason", key=lambda of: of.map(list(counts).index), kind="stable")
    return pd.concat(kept, ignore_index=True), dict(counts), shown.reset_index(drop=True)


def _cleaned(raw: pd.DataFrame, seen: set[str]) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """The cards of a raw table, and the rows that each reason changed or dropped.

    Parameters
    ----------
    seen : the ids of earlier cards, to which those of this table are added.
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
    ids = pd.Series([card_id(*pair) for pair in zip(texts.question, texts.answer, strict=True)], index=raw.index)
    again = ids[kept].duplicated() | ids[kept].isin(seen)
    found["dropped_duplicate"] = again.reindex(ids.index, fill_value=False)
    kept &= ~found["dropped_duplicate"]
    seen.update(ids[kept])
    cards = raw.drop(columns="drop").assign(question=texts.question, answer=texts.answer)
    cards.insert(0, "card_id", ids)
    return cards[kept], found


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
    """Write the cards in shards, in the order of the table, then their groups and splits, and last a manifest.

    The shards do not hold groups and splits. So cards that are added to the end of a deck change its last shard only.

    Parameters
    ----------
    cards : table of cards with a ``split`` column.
    material : description of the deck, see :func:`medcards.deck.sources.read_deck`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(in_shards(cards), start=1):
        shard.drop(columns=["group", "split"]).to_parquet(folder / f"cards-{number:05}.parquet", index=False)
    cards[["card_id", "group", "split"]].to_parquet(folder / SPLITS_FILE, index=False)
    write_json(folder / "manifest.json", {"material": material, "cards": len(cards), "shards": number})


def in_shards(cards: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The cards in parts of :data:`SHARD_CARDS`, in the order of the table."""
    for start in range(0, len(cards), SHARD_CARDS):
        yield cards[start : start + SHARD_CARDS]


def card_shards(folder: str | Path) -> Iterator[pd.DataFrame]:
    """Read the shards one after the other, as tables of cards without ``group`` and ``split``.

    Raises
    ------
    InputError : a file is missing.
    """
    manifest = _written(folder, "manifest.json")
    shards = read_json(manifest).get("shards")
    if shards is None:
        raise InputError(f"{manifest} is that of an earlier version: run `dvc repro prepare`")
    for number in range(1, shards + 1):
        yield pd.read_parquet(_written(folder, f"cards-{number:05}.parquet"))


def load_cards(folder: str | Path) -> pd.DataFrame:
    """Read all cards as one table, with a ``split`` column.

    Raises
    ------
    InputError : a file is missing, or the files do not belong together.
    """
    cards = pd.concat(card_shards(folder), ignore_index=True)
    splits = pd.read_parquet(_written(folder, SPLITS_FILE))
    if not cards.card_id.equals(splits.card_id):
        raise InputError(f"{Path(folder) / SPLITS_FILE} belongs to other cards: run `dvc repro -f prepare`")
    return cards.assign(group=splits.group, split=splits.split)[[*CARD_COLUMNS, "split"]]


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
