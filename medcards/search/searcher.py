"""Search the deck in your own words.

    python -m medcards.search.searcher "why are my teeth crooked" -k 5
    python -m medcards.search.searcher "why are my teeth crooked" --json

It uses what `dvc repro` made: the encoder, the index, the cross-encoder if the run serves one, and the weights that
were chosen on the validation questions. From Python:

    from medcards.search.searcher import Searcher
    hits = Searcher.load("data").search("why are my teeth crooked", k=5)
    print(hits[0].score, hits[0].card_id, hits[0].answer)

Each hit has `question`, `answer`, `card_id`, `source`, `score` and the `scores` of the systems behind it.
"""

import argparse
import json
import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from medcards import InputError
from medcards.base.files import read_json
from medcards.base.manifests import model_folder
from medcards.deck import cards as card_tables
from medcards.search.cross_encoder import load_scorer
from medcards.search.encoder import Embeddings, encode, load_encoder
from medcards.search.index import HnswIndex
from medcards.search.systems import DEPTH, Retriever, Served


@dataclass(frozen=True)
class Hit:
    """A card that was found: the served system's score, and the scores that it is made of."""

    rank: int
    card_id: str
    question: str
    answer: str
    source: str
    score: float | None  # none where hybrid_rerank has it beyond the candidates that it scores
    scores: dict[str, float]


class Searcher:
    """The deck, ready to be asked; see the module's example."""

    def __init__(self, answers: pd.DataFrame, retriever: Retriever, encoder, served: Served):
        self._answers, self._retriever, self.encoder, self.served = answers, retriever, encoder, served

    @classmethod
    def load(cls, data: str | Path = "data") -> "Searcher":
        """Read what the pipeline made.

        Raises
        ------
        InputError : something is missing or damaged, or does not belong together.
        """
        data = Path(data)
        cards = card_tables.load(data / "cards")
        answers = card_tables.corpus(cards)
        try:
            served = Served(**read_json(data / "rankings" / "served.json"))
        except ValidationError:
            raise InputError(
                f"{data / 'rankings' / 'served.json'} is damaged: run `dvc repro -f rerank_eval`"
            ) from None
        embeddings = Embeddings.load(data / "embeddings", cards)
        index = HnswIndex.load(data / "index", embeddings.answers)
        encoder = load_encoder(model_folder(data / "encoder"))
        embeddings.check_encoder(encoder, cards)
        scorer = load_scorer(data / "reranker", batch_size=32) if served.system == "hybrid_rerank" else None
        if scorer is None and served.system == "hybrid_rerank":
            raise InputError(
                f"{data / 'reranker'} names no cross-encoder, but one is served: run `dvc repro rerank_eval`"
            )
        return cls(answers, Retriever(answers.answer.tolist(), embeddings.answers, index, scorer), encoder, served)

    def search(self, question: str, k: int = 5) -> list[Hit]:
        """The ``k`` best cards, best first; fewer where fewer were found.

        A question longer than the encoder reads is cut by it, and read whole by BM25.

        Raises
        ------
        InputError : the question is empty, or ``k`` is not between 1 and 50.
        """
        (hits,) = self.search_all([question], k)
        return hits

    def search_all(self, questions: list[str], k: int = 5) -> list[list[Hit]]:
        """What :meth:`search` finds for each question; faster, for the cross-encoder scores pairs of like lengths."""
        questions = [checked(question, k) for question in questions]
        vectors = encode(self.encoder, questions, 32)
        found = self._retriever.rank(questions, vectors, self.served, [self.served.system])
        ranked, scores = found[self.served.system]
        return [
            [
                self._hit(rank, int(row), None if np.isnan(score) else float(score), place, found)
                for rank, (row, score) in enumerate(zip(ranked[place, :k], scores[place, :k], strict=True), start=1)
                if row >= 0
            ]
            for place in range(len(questions))
        ]

    def _hit(self, rank: int, row: int, score: float | None, place: int, found: dict) -> Hit:
        """The card in a row of the corpus, with its score by each system for the question at ``place``."""
        card = self._answers.iloc[row]
        scores = {}
        for system, (rows, values) in found.items():
            ranks = np.flatnonzero(rows[place] == row)
            if len(ranks) and not np.isnan(values[place, ranks[0]]):
                scores[system] = float(values[place, ranks[0]])
        return Hit(rank, card.card_id, card.question, card.answer, card.source, score, scores)


def checked(question: str, k: int) -> str:
    """The question on one line; InputError if there is nothing to search for, or nothing to show."""
    question = " ".join(question.split())
    if not question:
        raise InputError("the question is empty: ask something")
    if not 1 <= k <= DEPTH:
        raise InputError(f"k={k}: between 1 and {DEPTH} cards can be shown")
    return question


def table(hits: list[Hit], width: int) -> str:
    """Hits as a reader wants them: question and answer wrapped, card id and scores below."""
    blocks = []
    for hit in hits:
        scores = "  ".join(f"{system} {score:.3f}" for system, score in hit.scores.items())
        lines = (
            textwrap.wrap(hit.question, width - 4) + textwrap.wrap(hit.answer, width - 4) + [f"{hit.card_id}  {scores}"]
        )
        blocks.append(f"{hit.rank:2}. " + "\n    ".join(lines))
    return "\n\n".join(blocks)


def hurry() -> None:
    """Load without what a search never uses: adapters, whose libraries take a second to import, and progress bars."""
    sys.modules.setdefault("peft", None)  # transformers then takes it for not installed

    from transformers.utils import logging

    logging.disable_progress_bar()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.search.searcher",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", help="what you want to know")
    parser.add_argument("-k", type=int, default=5, help="so many cards (default 5)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: the question, the served system, the hits"
    )
    parser.add_argument("--data", default="data", help="the folder that the pipeline wrote (default data)")
    given = parser.parse_args()
    try:
        checked(given.question, given.k)  # before anything is loaded
        hurry()
        searcher = Searcher.load(given.data)
        hits = searcher.search(given.question, given.k)
    except InputError as error:
        sys.exit(f"search: {error}")
    if given.json:
        found = {"question": given.question, "system": searcher.served.system, "hits": [asdict(hit) for hit in hits]}
        print(json.dumps(found, ensure_ascii=False, allow_nan=False, indent=2))
    else:
        print(table(hits, min(shutil.get_terminal_size().columns, 120)) or "nothing found")


if __name__ == "__main__":
    main()
