"""Which answers of a deck are right for a question."""

import pandas as pd

from medcards.deck.words import normalise


def relevant_answers(queries: pd.DataFrame, answers: pd.DataFrame) -> list[set[str]]:
    """The relevant answers of each query.

    A card is relevant if its normalised answer or its normalised question equals that of the query's card, or if it
    has the same concept. If only one of several copies were relevant, a ranking that finds another copy would score 0.

    Parameters
    ----------
    queries : cards whose questions are asked.
    answers : cards whose answers are searched, see :func:`corpus`.

    Returns
    -------
    relevant : one set of card ids per query.
    """
    relevant: list[set[str]] = [set() for _ in range(len(queries))]
    for asked, searched in zip(_keys(queries), _keys(answers), strict=True):
        same = answers.card_id.groupby(searched.to_numpy()).agg(set).drop("", errors="ignore")
        for ids, value in zip(relevant, asked, strict=True):
            ids |= same.get(value, set())
    return relevant


def answer_rows(cards: pd.DataFrame, answers: pd.DataFrame) -> pd.Series:
    """The row of the corpus that answers each card's question.

    It is the card's own answer or, where that is not searched (a layperson question), the answer of its concept. NaN
    where there is none.

    Parameters
    ----------
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    """
    place = pd.Series(range(len(answers)), index=answers.card_id)
    of_concept = pd.Series(range(len(answers)), index=answers.concept).drop("", errors="ignore")
    of_concept = of_concept[~of_concept.index.duplicated()]
    return cards.card_id.map(place).fillna(cards.concept.map(of_concept))


def _keys(cards: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    return cards.answer.map(normalise), cards.question.map(normalise), cards.concept
