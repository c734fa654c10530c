"""Rows: the cards that a language model is trained and validated on, some of them with cards in the prompt.

A share of the training rows holds cards of the training split, as the search ranks them, and the answer cites the right
one. In some of these rows the right card can be missing, and then the answer cites none. RAFT trains on such a mixture
(Zhang et al., 2024, arXiv:2403.10131).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards import InputError
from medcards.base.params import Block
from medcards.deck.cards import corpus, sample
from medcards.deck.relevance import relevant_answers
from medcards.search.encoder import TextEncoder
from medcards.search.exact import largest
from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.vectors import Vectors

STREAM = 1
"""Number of the random stream that draws the rows with cards.

The seed alone gives the order of the training. Rows that are drawn in this order would come first there.
"""
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
    ``context``, a list of the answers in the prompt, and ``cited``, the number of the right one, from 1, or 0.
    A seeded share ``params.context_share`` of the training rows has a context, at most, see :func:`with_context`.

    Raises
    ------
    InputError : a name of ``params.query_sets`` is that of no training card.
    """
    known = cards.query_set[cards.split == "train"].unique()
    if unknown := [name for name in params.query_sets if name not in known]:
        raise InputError(f"rows.query_sets: no training card is of {unknown[0]}; the deck has: {', '.join(known)}")
    train = _closed_book(sample(cards[cards.query_set.isin(params.query_sets)], "train", params.train_cards, seed))
    validation = _closed_book(sample(cards, "validation", params.validation_cards, seed, "own"))
    if params.context_share:
        read = with_context(train, cards[cards.split == "train"], vectors, encoder, params, seed)
        train = pd.concat([train.drop(index=read.index), read]).sort_index()
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
    rows: pd.DataFrame, train: pd.DataFrame, vectors: Vectors, encoder: TextEncoder, params: RowsParams, seed: int
) -> pd.DataFrame:
    """The rows whose prompts hold the ``params.context_cards`` training cards that exact search ranks first.

    The cards stand there by their answers, which are what the search reads. With their questions, a model learns to
    find the card that repeats the asked question, and chooses worse where none does (docs/LOG.md).

    The share ``params.context_share`` of all rows, drawn at random, becomes such rows. In the share
    ``params.relevant_share`` of them, the best relevant card stands where the search ranks it, and the row has its
    answer. These are drawn from the rows whose relevant card is ranked high enough for a prompt; there may be too few.
    All other relevant cards are left out. In the other rows no relevant card is in the prompt.

    Parameters
    ----------
    rows : the training rows, closed book.
    train : the cards of the training split.
    vectors : the vectors of the deck, whose answers are searched.

    Returns
    -------
    the drawn rows, with their ``question`` as it is asked, ``answer``, ``context`` and ``cited``.
    """
    random, searched = np.random.default_rng([seed, STREAM]), corpus(train)
    order = random.permutation(len(rows))
    questions = perturbed(rows, random, seed) if params.perturb else rows.question.tolist()
    answers = vectors.answers[pd.Index(vectors.answer_ids).get_indexer_for(searched.card_id)]
    place_of, right = pd.Series(range(len(searched)), searched.card_id), relevant_answers(rows, searched)
    relevant = [sorted(place_of[list(ids)]) for ids in right]
    asked = encoder(questions)

    def cards_of(row: int, right: bool) -> PromptCards:
        return prompt_cards(answers @ asked[row], relevant[row], params.context_cards, right)

    count = round(params.context_share * len(rows))
    with_right = [row for row in order if cards_of(row, right=True).cited][: round(params.relevant_share * count)]
    others = np.setdiff1d(order, with_right, assume_unique=True)[: round((1 - params.relevant_share) * count)]
    drawn = [*with_right, *others]
    prompts = [cards_of(row, place < len(with_right)) for place, row in enumerate(drawn)]
    return rows.iloc[drawn].assign(
        question=[questions[row] for row in drawn],
        answer=[
            searched.answer[places[cited - 1]] if cited else rows.answer.iloc[row]
            for row, (places, cited) in zip(drawn, prompts, strict=True)
        ],
        context=[searched.answer[places].tolist() for places, _ in prompts],
        cited=[cited for _, cited in prompts],
    )


class PromptCards(NamedTuple):
    """The cards of a prompt, as places in the corpus, best first, and the number of the relevant one, from 1.

    The number is 0 where no relevant card is in the prompt.
    """

    places: list[int]
    cited: int


def prompt_cards(scores: np.ndarray, relevant: list[int], count: int, right: bool = True) -> PromptCards:
    """Choose the cards of a prompt, among them the best relevant card and no other relevant one.

    Parameters
    ----------
    scores : similarity of each card, shape (cards,).
    relevant : places of the relevant cards.
    count : number of cards, at most.
    right : whether the best relevant card may be in the prompt; it is, where it is ranked high enough.

    Examples
    --------
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [1, 2], 3)
    PromptCards(places=[0, 1, 3], cited=2)
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [4], 3)
    PromptCards(places=[0, 1, 2], cited=0)
    >>> prompt_cards(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), [1, 2], 3, right=False)
    PromptCards(places=[0, 3, 4], cited=0)
    """
    allowed = scores.astype(np.float64)
    best = relevant[int(scores[relevant].argmax())] if relevant and right else None
    allowed[[place for place in relevant if place != best]] = -np.inf
    places = [place for place in largest(allowed, count).tolist() if np.isfinite(allowed[place])]
    return PromptCards(places, places.index(best) + 1 if best in places else 0)
