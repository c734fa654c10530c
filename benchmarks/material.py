"""What the benchmarks read of a finished run: the deck, its vectors, and blocks of params.yaml."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medcards.base.manifests import pinned_model
from medcards.base.params import Seed, read_params
from medcards.base.references import resolve
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.deck.relevance import relevant_answers
from medcards.search.evaluation import score_ranking
from medcards.search.vectors import Vectors, search_vectors

if TYPE_CHECKING:
    from medcards.llm.params import LlmParams

DATA = Path("data")


def blocks(**kinds: object) -> list:
    """The seed and the named blocks of params.yaml in the current folder; the language model is the pinned one."""
    kinds = {"seed": Seed} | kinds
    found = dict(zip(kinds, read_params("params.yaml", **kinds), strict=True))
    if "llm" in found:
        found["llm"] = found["llm"].model_copy(update={"model": pinned_model(DATA, "llm")})
    return list(found.values())


@dataclass
class Deck:
    """The deck of a finished run in the current folder."""

    seed: int

    @cached_property
    def cards(self) -> pd.DataFrame:
        """All cards."""
        return card_tables.load_cards(DATA / "cards")

    @cached_property
    def vectors(self) -> Vectors:
        """The vectors that the search uses."""
        return search_vectors(DATA, self.cards)

    @cached_property
    def unadapted(self) -> Vectors:
        """The vectors of the unadapted encoder."""
        return Vectors.load(DATA / "vectors", self.cards)

    @cached_property
    def corpus(self) -> pd.DataFrame:
        """The cards whose answers are searched."""
        return card_tables.corpus(self.cards)

    def questions(self, count: int, split: str = "test") -> pd.DataFrame:
        """A seeded sample of the deck's own questions of a split."""
        return card_tables.sample(self.cards, split, count, self.seed, "own")


def plain_llm(params: "LlmParams") -> tuple:
    """The language model and its tokenizer, loaded with the defaults of transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcards.llm.loading import plain_copy

    folder = resolve(params.model)
    folder = plain_copy(folder) if folder.suffix == ".gguf" else folder
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def ndcg(asked: pd.DataFrame, answers: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """nDCG@10 of each question.

    Parameters
    ----------
    asked : the cards whose questions are asked.
    answers : the searched cards.
    rows : the ranking of each question, row numbers of ``answers``.
    """
    relevant = relevant_answers(asked, answers)
    return score_ranking(rows, relevant, answers.card_id.to_numpy(), ["ndcg@10"])["ndcg@10"].to_numpy()


def paired(asked: pd.DataFrame, plain: np.ndarray, other: np.ndarray, seed: int, digits: int = 4) -> str:
    """The mean difference ``other - plain`` with its 95% interval, as text."""
    found = Bootstrap(asked.group, seed).interval(np.asarray(other) - np.asarray(plain))
    mean, lo, hi = (round(found[name], digits) + 0.0 for name in ("mean", "lo", "hi"))
    return f"{mean:+.{digits}f} [{lo:.{digits}f}, {hi:.{digits}f}]"
