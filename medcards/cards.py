"""What a card is: its schema, how raw text is cleaned, which answers are relevant to a question.

A table of cards has the columns

``card_id``    16 hex digits, a hash of question and answer
``question``, ``answer``    clean text
``group``      cards that must stay in one split, see :mod:`medcards.splits`
``concept``    what the source says the card is about (an ontology term's id), or empty
``query_set``  ``own`` for the deck's own questions, whose answers are what is searched;
               ``layperson`` for everyday wordings of a concept that the deck already defines
``source``     where the card came from
"""

import hashlib
import re
import unicodedata
from pathlib import Path

import pandas as pd

from medcards import InputError

COLUMNS = ["card_id", "question", "answer", "group", "concept", "query_set", "source"]
SPLITS = ["train", "validation", "test"]


def clean(raw: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean raw cards: Unicode NFC, single spaces, no blank side, no exact duplicate.

    Returns
    -------
    cards : the table, all columns but ``group``, which is added by :func:`medcards.splits.group_cards`.
    counts : rows read, changed by reason, dropped by reason, and kept; read = dropped + kept.

    Raises
    ------
    InputError : no usable row is left.
    """
    cards = raw.copy()
    counts = {"rows_read": len(cards), "changed_unicode": 0, "changed_whitespace": 0}
    for column in ("question", "answer"):
        normal = cards[column].map(lambda text: unicodedata.normalize("NFC", text))
        spaced = normal.map(lambda text: " ".join(text.split()))
        counts["changed_unicode"] += int((normal != cards[column]).sum())
        counts["changed_whitespace"] += int((spaced != normal).sum())
        cards[column] = spaced
    reasons = {
        "dropped_blank_question": cards.question == "",
        "dropped_blank_answer": cards.answer == "",
        "dropped_duplicate": cards.duplicated(["question", "answer"]),
    }
    dropped = pd.Series(False, index=cards.index)
    for reason, rows in reasons.items():
        counts[reason] = int((rows & ~dropped).sum())  # a row is counted under its first reason
        dropped |= rows
    cards = cards[~dropped]
    counts["kept"] = len(cards)
    if cards.empty:
        raise InputError(f"no usable row among the {counts['rows_read']} read: every question or answer is blank")
    pairs = zip(cards.question, cards.answer, strict=True)
    cards.insert(0, "card_id", [card_id(question, answer) for question, answer in pairs])
    return cards.reset_index(drop=True), counts


def card_id(question: str, answer: str) -> str:
    """A card's stable id: 16 hex digits of the sha256 of its clean text."""
    return hashlib.sha256(f"{question}\x1f{answer}".encode()).hexdigest()[:16]


def normalise(text: str) -> str:
    """Text as it is compared for equality: lower case, words and relations only; the whole text if it has none.

    >>> normalise("A dose > 5 mg.")
    'a dose > 5 mg'
    """
    return " ".join(re.findall(r"\w+|[<>≤≥=±%]", text.lower())) or text


def corpus(cards: pd.DataFrame) -> pd.DataFrame:
    """The cards whose answers are searched: one answer a concept, so those of the deck's own questions."""
    return cards[cards.query_set == "own"].reset_index(drop=True)


def sample(cards: pd.DataFrame, split: str, count: int, seed: int, query_set: str = "") -> pd.DataFrame:
    """A seeded sample of a split's cards, of one query set if named: at most ``count``, in the order of the table."""
    rows = cards[cards.split == split]
    if query_set:
        rows = rows[rows.query_set == query_set]
    return rows.sample(min(count, len(rows)), random_state=seed).sort_index().reset_index(drop=True)


def relevant_answers(queries: pd.DataFrame, answers: pd.DataFrame) -> list[set[str]]:
    """The ids of every answer that is right for each query.

    Right are the cards whose normalised answer or normalised question equals the query card's own, and all cards
    of its concept. Scoring one copy only would punish a ranker for finding the other.

    Parameters
    ----------
    queries : cards that ask.
    answers : cards that are searched, see :func:`corpus`.
    """
    relevant: list[set[str]] = [set() for _ in range(len(queries))]
    for asked, searched in zip(_keys(queries), _keys(answers), strict=True):
        same = answers.card_id.groupby(searched.to_numpy()).agg(set).drop("", errors="ignore")
        for ids, value in zip(relevant, asked, strict=True):
            ids |= same.get(value, set())
    return relevant


def _keys(cards: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    return cards.answer.map(normalise), cards.question.map(normalise), cards.concept


def save(cards: pd.DataFrame, folder: Path) -> None:
    """Write one Parquet file a split, in the order of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        cards.loc[cards.split == split, COLUMNS].to_parquet(folder / f"{split}.parquet", index=False)


def load(folder: str | Path) -> pd.DataFrame:
    """Read the cards of all splits as one table, with a ``split`` column."""
    tables = []
    for split in SPLITS:
        file = Path(folder) / f"{split}.parquet"
        if not file.exists():
            raise InputError(f"{file} is missing: run `dvc repro prepare`")
        tables.append(pd.read_parquet(file).assign(split=split))
    return pd.concat(tables, ignore_index=True)
