"""Decks of any size: a sample of the default deck's cards, or all of them and recombined ones."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap

from benchmarks.material import DATA, Deck, blocks
from medcards.base.files import read_json, write_json
from medcards.deck import cards as card_tables
from medcards.search.exact import exact_search
from medcards.search.vectors import Vectors, save_vectors

PARTS, NEAR = 4, 100
"""Number of real cards that a made card is recombined from, and of similar vectors that its own is mixed from."""
FILE_CARDS = 50_000
"""Number of cards in a file of the deck."""


def nearest_others(vectors: np.ndarray) -> np.ndarray:
    """The rows of the :data:`NEAR` most similar other vectors, shape (vectors, :data:`NEAR`)."""
    return exact_search(vectors, vectors, NEAR + 1)[0][:, 1:]  # the first one is the vector itself


def mixed(vectors: np.ndarray, near: np.ndarray, first: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Vectors of length 1, each a weighted mean of a vector and of random ones among those that are similar to it.

    Parameters
    ----------
    near : see :func:`nearest_others`.
    first : the row of a vector for each mean. The weights are drawn from a Dirichlet distribution.
    """
    others = near[first[:, None], random.integers(NEAR, size=(len(first), PARTS - 1))]
    weights = random.dirichlet(np.ones(PARTS), size=len(first)).astype(np.float32)
    means = np.einsum("np,npd->nd", weights, vectors[np.column_stack([first, others])])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def recombined(texts: np.ndarray, parts: np.ndarray, random: np.random.Generator) -> Iterator[str]:
    """Texts as long as the first of their parts. The word at each place is that of any part at this place.

    Parameters
    ----------
    parts : rows of ``texts``, shape (made texts, :data:`PARTS`).
    """
    for of_text in texts[parts].tolist():
        words = [text.split() for text in of_text]
        drawn = random.integers(len(words), size=len(words[0])).tolist()
        yield " ".join(
            words[one][place] if place < len(words[one]) else words[0][place] for place, one in enumerate(drawn)
        )


def write_deck(size: int, folder: Path) -> None:
    """Write a deck as Parquet files, its vectors, and what the first stages read of the finished run.

    The first cards are a sample of the default deck's. A made card holds words of :data:`PARTS` of them. Its vectors
    are :func:`mixed` from that of the first.
    """
    (seed,) = blocks()
    deck, random = Deck(seed), np.random.default_rng(seed)
    cards, known = deck.corpus, deck.unadapted
    of_questions = known.question_rows(cards.card_id)
    vectors = {"answers": np.asarray(known.answers), "questions": known.questions[of_questions]}
    lengths = {"answer_tokens": known.answer_tokens, "question_tokens": known.question_tokens[of_questions]}
    near = {name: nearest_others(array) for name, array in vectors.items()} if size > len(cards) else {}
    chosen = np.sort(random.permutation(len(cards))[:size])
    (folder / "decks").mkdir(parents=True)
    written = {
        name: open_memmap(folder / f"{name}.npy", "w+", array.dtype, (size, *array.shape[1:]))
        for name, array in (vectors | lengths).items()
    }
    for start in range(0, size, FILE_CARDS):
        rows = np.arange(start, min(start + FILE_CARDS, size))
        copied = chosen[rows[rows < len(chosen)]]
        made = random.integers(len(cards), size=(len(rows) - len(copied), PARTS))
        texts = {
            side: [*cards[side].iloc[copied], *recombined(cards[side].to_numpy(dtype=object), made, random)]
            for side in ("question", "answer")
        }
        pd.DataFrame(texts).to_parquet(folder / "decks" / f"{start:09}.parquet", index=False)
        for name, array in vectors.items():
            of_made = [mixed(array, near[name], made[:, 0], random)] if len(made) else []
            written[name][rows] = np.concatenate([array[copied], *of_made])
        for name, array in lengths.items():
            written[name][rows] = array[np.concatenate([copied, made[:, 0]])]
    write_json(folder / "max_tokens.json", known.max_tokens)
    shutil.copytree(DATA / "models", folder / "data" / "models")
    write_json(folder / "data" / "quantisation" / "bases.json", {})


def write_vectors(folder: Path) -> None:
    """Write data/vectors for the cards that the stage prepare kept, shard by shard."""
    ids = pd.Index(
        [
            card_tables.card_id(*pair)
            for file in sorted((folder / "decks").iterdir())
            for pair in pd.read_parquet(file).itertuples(index=False)
        ]
    )
    row_of = pd.Series(np.arange(len(ids)), index=ids)[~ids.duplicated()]
    names = ("answers", "answer_tokens", "questions", "question_tokens")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    max_tokens = read_json(folder / "max_tokens.json")

    def shards() -> Iterator[Vectors]:
        for cards in card_tables.card_shards(folder / "data" / "cards"):
            rows, of_cards = row_of[cards.card_id].to_numpy(), cards.card_id.to_numpy(dtype=np.str_)
            kept = {name: array[rows] for name, array in arrays.items()}
            yield Vectors(**kept, answer_ids=of_cards, question_ids=of_cards, max_tokens=max_tokens)

    save_vectors(shards(), folder / "data" / "vectors")
