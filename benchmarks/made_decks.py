"""Decks of any size: a sample of the default deck's cards, or all of them and recombined ones."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.material import DATA, Deck, blocks
from medcards.base.files import write_json
from medcards.deck import cards as card_tables
from medcards.search.vectors import Vectors

PARTS = 4
"""Number of real cards that a made card is recombined from."""


def made_deck(deck: Deck, size: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Cards, and their arrays of :class:`medcards.search.vectors.Vectors`.

    A made card holds words of :data:`PARTS` real cards. Its vector is the mean of theirs, with length 1.
    """
    cards, vectors, random = deck.corpus, deck.unadapted, np.random.default_rng(deck.seed)
    chosen = np.sort(random.permutation(len(cards))[:size])
    parts = random.integers(len(cards), size=(size - len(chosen), PARTS))
    texts, arrays = cards.iloc[chosen][["question", "answer"]], {}
    made = {name: [recombined(cards[name].iloc[rows].tolist(), random) for rows in parts] for name in texts}
    for name, array in (("answers", vectors.answers), ("questions", vectors.questions_of(cards.card_id))):
        means = array[parts].mean(axis=1)
        arrays[name] = np.concatenate([array[chosen], means / np.linalg.norm(means, axis=1, keepdims=True)])
    counts = {"answer_tokens": vectors.answer_tokens, "question_tokens": vectors.question_tokens_of(cards.card_id)}
    arrays |= {name: np.concatenate([array[chosen], array[parts[:, 0]]]) for name, array in counts.items()}
    return pd.concat([texts, pd.DataFrame(made, columns=texts.columns)], ignore_index=True), arrays


def recombined(texts: list[str], random: np.random.Generator) -> str:
    """A text as long as the first. The word at each place is that of any of the texts at this place."""
    words = [text.split() for text in texts]
    drawn = random.integers(len(words), size=len(words[0]))
    return " ".join(
        words[one][place] if place < len(words[one]) else words[0][place] for place, one in enumerate(drawn)
    )


def write_deck(size: int, folder: Path) -> None:
    """Write a deck, its vectors, and what the first stages read of the finished run."""
    (seed,) = blocks()
    deck = Deck(seed)
    table, arrays = made_deck(deck, size)
    (folder / "decks").mkdir(parents=True)
    table.to_parquet(folder / "decks" / "made.parquet", index=False)
    np.savez(folder / "vectors.npz", max_tokens=deck.unadapted.max_tokens, **arrays)
    shutil.copytree(DATA / "models", folder / "data" / "models")
    write_json(folder / "data" / "quantisation" / "bases.json", {})


def write_vectors(folder: Path) -> None:
    """Write data/vectors for the cards that the stage prepare kept."""
    table, cards = pd.read_parquet(folder / "decks" / "made.parquet"), card_tables.load_cards(folder / "data" / "cards")
    ids = [card_tables.card_id(*pair) for pair in zip(table.question, table.answer, strict=True)]
    rows = pd.Series(range(len(ids))).groupby(np.array(ids)).first()[cards.card_id].to_numpy()
    arrays, ids = dict(np.load(folder / "vectors.npz")), cards.card_id.to_numpy(dtype=np.str_)
    max_tokens = int(arrays.pop("max_tokens"))
    kept = {name: array[rows] for name, array in arrays.items()}
    Vectors(**kept, answer_ids=ids, question_ids=ids, max_tokens=max_tokens).save(folder / "data" / "vectors")
