"""What a card is: its schema, how raw text is cleaned, which answers are relevant to a question.

A table of cards has the columns

``card_id``    16 hex digits, a hash of question and answer
``question``, ``answer``    clean text
``group``      cards that must stay in one split, see :mod:`medcards.deck.splits`
``concept``    what the source says the card is about (an ontology term's id), or empty
``branch``     the one top-level branch of the ontology that the concept lies in, or empty
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

COLUMNS = ["card_id", "question", "answer", "group", "concept", "branch", "query_set", "source"]
SPLITS = ["train", "validation", "test"]


EXAMPLES = 5
# What no reader sees and no tokenizer expects: control characters that are not white space, soft hyphens, zero-width
# spaces, marks of direction. The joiners U+200C and U+200D stay: they change how a word is read.
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u2060\ufeff]")


def clean(raw: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int], pd.DataFrame]:
    """Clean raw cards: no invisible characters, Unicode NFC, single spaces, no blank side, no exact duplicate.

    Parameters
    ----------
    raw : table of a reader in :mod:`medcards.deck.sources`.

    Returns
    -------
    cards : the table, all columns but ``group``, which is added by :func:`medcards.deck.splits.group_cards`.
    counts : rows read, changed by reason, dropped by reason, and kept; read = dropped + kept.
    examples : the first few rows of each reason: ``reason``, ``row`` (from 1), ``question`` and ``answer`` as read.

    Raises
    ------
    InputError : no usable row is left.
    """
    steps = {
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
        found[reason] = rows & kept  # a row is counted under its first reason
        kept &= ~rows
    found["dropped_duplicate"] = texts[kept].duplicated().reindex(raw.index, fill_value=False)
    kept &= ~found["dropped_duplicate"]

    counts = {"rows_read": len(raw)} | {reason: int(rows.sum()) for reason, rows in found.items()}
    counts["kept"] = int(kept.sum())
    if not kept.any():
        raise InputError(f"no usable row among the {len(raw)} read: every question or answer is blank")
    numbered = raw[["question", "answer"]].rename_axis("row").reset_index().assign(row=lambda table: table.row + 1)
    examples = pd.concat([numbered[rows].head(EXAMPLES).assign(reason=reason) for reason, rows in found.items()])
    cards = raw.drop(columns="drop").assign(question=texts.question, answer=texts.answer)[kept].reset_index(drop=True)
    pairs = zip(cards.question, cards.answer, strict=True)
    cards.insert(0, "card_id", [card_id(question, answer) for question, answer in pairs])
    return cards, counts, examples


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
