"""Rows: the cards that a language model is trained and validated on, some of them with cards in the prompt.

A share of the training rows holds cards of the training split, as the search ranks them, and the answer cites the right
one. In some of these rows the right card is missing, so that the model also learns to answer without a citation. RAFT
trains on such a mixture (Zhang et al., 2024, arXiv:2403.10131).
"""

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards import InputError
from medcards.base.params import Block
from medcards.deck.cards import card_text, corpus, sample
from medcards.deck.relevance import relevant_answers
from medcards.search.encoder import TextEncoder
from medcards.search.exact import largest
from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.vectors import Vectors

ROW_COLUMNS = ["card_id", "question", "answer", "group", "context", "cited"]


class RowsParams(Block):
    """The cards that a language model is trained and validated on, see params.yaml."""

    query_sets: list[str] = Field(min_length=1)
    train_cards: PositiveInt
    validation_cards: PositiveInt
    context_share: float = Field(ge=0, le=1)
    context_cards: PositiveInt
    relevant_share: float = Field(ge=0, le=1)
    perturb: bool


def rows_with_context(
    cards: pd.DataFrame, vectors: Vectors, encoder: TextEncoder, params: RowsParams, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sample training and validation cards, and choose the cards in the prompts of a share of the training rows.

    The training cards are of ``params.query_sets``. The validation cards are the deck's own, as the cards are that
    the answering systems are asked. Validation rows have no cards in the prompt, so that the validation losses of
    different mixtures can be compared.

    Parameters
    ----------
    cards : the deck, with a ``split`` column.
    vectors : the unadapted encoder's vectors of the deck.
    encoder : the unadapted encoder. It is called only where a row has cards in its prompt.

    Returns
    -------
    training and validation rows: ``card_id`` and ``group`` of the asked card, its ``question``, an ``answer``,
    ``context``, a list of the texts in the prompt, and ``cited``, the number from 1 of the right card among them, or 0.
    A seeded share ``params.context_share`` of the training rows has a context, see :func:`with_context`.

    Raises
    ------
    InputError : a name of ``params.query_sets`` is that of no training card.
    """
    known = cards.query_set[cards.split == "train"].unique()
    if unknown := [name for name in params.query_sets if name not in known]:
        raise InputError(f"rows.query_sets: no training card is of {unknown[0]}; the deck has: {', '.join(known)}")
    train = _closed_book(sample(cards[cards.query_set.isin(params.query_sets)], "train", params.train_cards, seed))
    validation = _closed_book(sample(cards, "validation", params.validation_cards, seed, "own"))
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(train))[: round(params.context_share * len(train))]
    if len(chosen):
        asked = train.iloc[chosen]
        questions = perturbed(asked, random, seed) if params.perturb else asked.question.tolist()
        read = with_context(asked, cards[cards.split == "train"], vectors, encoder(questions), params)
        train = pd.concat([train.drop(index=read.index), read.assign(question=questions)]).sort_index()
    return train[ROW_COLUMNS], validation[ROW_COLUMNS]


def _closed_book(cards: pd.DataFrame) -> pd.DataFrame:
    return cards.assign(context=[[] for _ in range(len(cards))], cited=0)


def perturbed(cards: pd.DataFrame, random: np.random.Generator, seed: int) -> list[str]:
    """The questions of cards. Each of the deck's own has one of the perturbations, drawn by ``random``."""
    names = random.choice(list(PERTURBATIONS), len(cards))
    return [
        perturb(str(name), card.question, seed) if card.query_set == "own" else card.question
        for name, card in zip(names, cards.itertuples(), strict=True)
    ]


def with_context(
    asked: pd.DataFrame, train: pd.DataFrame, vectors: Vectors, questions: np.ndarray, params: RowsParams
) -> pd.DataFrame:
    """Rows whose prompts hold the ``params.context_cards`` training cards that exact search ranks first.

    In the first share ``params.relevant_share`` of the rows, one relevant card stands in the prompt: the one that is
    ranked first among the relevant ones, at its rank, or as the last card if its rank is lower. The row then has the
    answer of this card. All other relevant cards are left out.

    Parameters
    ----------
    asked : the rows with the questions of their cards, in random order.
    train : the cards of the training split.
    vectors : the vectors of the deck, whose answers are searched.
    questions : the vectors of the questions as they are asked, shape (rows, dimension).

    Returns
    -------
    the rows, with their ``answer``, ``context`` and ``cited``.
    """
    searched = corpus(train)
    answers = vectors.answers[pd.Index(vectors.answer_ids).get_indexer_for(searched.card_id)]
    texts = [card_text(*pair) for pair in zip(searched.question, searched.answer, strict=True)]
    place_of, right = pd.Series(range(len(searched)), searched.card_id), relevant_answers(asked, searched)
    given, context, cited = asked.answer.tolist(), [], []
    for row, question in enumerate(questions):
        relevant = sorted(place_of[list(right[row])])
        shown = row < round(params.relevant_share * len(asked))
        places, number = prompt_cards(answers @ question, relevant, params.context_cards, shown)
        context.append([texts[place] for place in places])
        cited.append(number)
        if number:
            given[row] = searched.answer[places[number - 1]]
    return asked.assign(answer=given, context=context, cited=cited)


def prompt_cards(scores: np.ndarray, relevant: list[int], count: int, shown: bool) -> tuple[list[int], int]:
    """The cards of a prompt, best first, and the number of the relevant one among them.

    Parameters
    ----------
    scores : similarity of each card, shape (cards,).
    relevant : places of the relevant cards.
    count : number of cards, at most.
    shown : whether the best relevant card is one of the cards.

    Returns
    -------
    places : of the cards.
    number : of the relevant card, from 1; 0 where there is none.

    Examples
    --------
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [1, 2], 3, shown=True)
    ([0, 1, 3], 2)
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [4], 3, shown=True)
    ([0, 1, 4], 3)
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [1, 2], 3, shown=False)
    ([0, 3, 4], 0)
    """
    others = scores.astype(np.float64)
    others[relevant] = -np.inf
    places = [place for place in largest(others, count).tolist() if np.isfinite(others[place])]
    if not shown or not relevant:
        return places, 0
    best = relevant[int(scores[relevant].argmax())]
    ahead = [place for place in places if (-scores[place], place) < (-scores[best], best)]
    rank = min(len(ahead), count - 1)
    return [*places[:rank], best, *places[rank : count - 1]], rank + 1
