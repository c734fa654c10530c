"""Cards and vectors that the tests of search share."""

import numpy as np
import pandas as pd
import tiny


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_units(rows: int, dimension: int) -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(rows, dimension)))


def deck() -> pd.DataFrame:
    """60 cards: 40 training and 18 test cards of the deck's own, and 2 layperson questions for its first 2 concepts."""
    table = pd.DataFrame(tiny.deck(60)).rename(columns={"input": "question", "output": "answer"})
    table["card_id"] = [f"c{number}" for number in range(60)]
    table["concept"] = [f"t{number % 58}" for number in range(60)]
    table["query_set"] = ["own"] * 58 + ["layperson"] * 2
    table["split"] = ["train"] * 40 + ["test"] * 18 + ["train"] * 2
    return table
