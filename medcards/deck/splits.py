"""Groups of cards that must stay in one split, and the split by these groups.

A group holds cards with one question or one concept, few cards with one answer, and near-duplicates. A group that lay
in both the training and the test split would leak answers.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt

from medcards import InputError
from medcards.base.params import Block
from medcards.base.workers import ComputeParams
from medcards.deck.cards import SPLITS
from medcards.deck.similar_sets import similar_sets
from medcards.deck.words import STOP_WORDS, normalise, template_words

SMALL_GROUP = 20
"""Number of cards that may form a group in a deck of any size."""
STOCK_SHARE = 0.05
"""An answer of more than :data:`SMALL_GROUP` cards, or of more than this share of the cards, is a stock answer."""
LENGTH_STRATA = 4
"""Number of equally large classes of answer length in each query set, which every split gets its share of."""


class PrepareParams(Block):
    """The number of cards, the rules that form groups, and the shares of the splits, see params.yaml."""

    max_cards: NonNegativeInt
    near_duplicate_threshold: float = Field(ge=0.2, le=1)
    join_share: float = Field(gt=0, le=1)
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)


def sample_concepts(cards: pd.DataFrame, max_cards: int, seed: int) -> pd.DataFrame:
    """A seeded sample of whole concepts with at most ``max_cards`` cards, in the order of the table."""
    concepts = _concepts(cards)
    sizes = concepts.value_counts().sort_index()
    sizes = sizes.iloc[np.random.default_rng(seed).permutation(len(sizes))]
    kept = sizes.index[sizes.cumsum() <= max_cards]
    return cards[concepts.isin(kept)].reset_index(drop=True)


def near_duplicates(
    cards: pd.DataFrame, threshold: float, seed: int, compute: ComputeParams | None = None
) -> pd.DataFrame:
    """Find pairs of cards whose questions share most words, or whose questions with answers share most words.

    The template of the questions is removed first: stop words, and words of most questions such as "define" (see
    :func:`medcards.deck.words.template_words`). Stock answers are left out. Then
    :func:`medcards.deck.similar_sets.similar_sets` compares the sets of words.

    Parameters
    ----------
    threshold : the smallest Jaccard similarity of near-duplicates, between 0 and 1.
    seed : seed of the MinHash permutations.
    compute : the cluster that compares the cards, see :class:`medcards.base.workers.Workers`.

    Returns
    -------
    pairs : table of ``first`` and ``second`` (positions in ``cards``, first < second) and ``similarity``, the most
        similar pair first.
    """
    questions, answers = cards.question.map(normalise), cards.answer.map(normalise)
    template = STOP_WORDS | template_words(text.split() for text in questions)
    told = answers.where(~stock_answers(answers), "")

    def asked() -> Iterator[set[str]]:
        for text in questions:
            words = set(text.split())
            yield words - template or words

    whole = (words.union(text.split()) for words, text in zip(asked(), told, strict=True))
    sides = (asked(), "questions"), (whole, "cards")
    found = [similar_sets(sets, threshold, seed, side, compute) for sets, side in sides]
    pairs = pd.concat(found).groupby(["first", "second"], as_index=False).similarity.max()
    return pairs.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)


def stock_answers(answers: pd.Series) -> pd.Series:
    """Which of a deck's answers, normalised, are so frequent that they do not tell what a card is about ("yes")."""
    return answers.map(answers.value_counts()) > max(2, min(SMALL_GROUP, STOCK_SHARE * len(answers)))


def group_cards(cards: pd.DataFrame, pairs: pd.DataFrame, join_share: float) -> pd.Series:
    """Find the group of each card.

    Cards with an equal question (after :func:`medcards.deck.words.normalise`) or the same concept are always in one
    group. Then all cards with an equal answer join, if it is no stock answer and the joined group stays within a size
    limit. Then near-duplicates join, the most similar pair first, while the joined group stays within the limit (single
    linkage). Without the limit, chains of near-duplicates would join a quarter of the ontology deck. The limit can keep
    equal answers and near-duplicates in different groups; the stage audit measures the leakage.

    Parameters
    ----------
    pairs : table that :func:`near_duplicates` returned.
    join_share : largest share of the cards in a group that equal answers or near-duplicates join. A group of
        :data:`SMALL_GROUP` cards is allowed in any deck.

    Returns
    -------
    groups : the name of each card's group: its smallest concept, or its smallest card id where a card has no concept.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups, concepts = DisjointSet(range(len(cards))), _concepts(cards)
    limit = max(SMALL_GROUP, join_share * len(cards))
    answers = cards.answer.map(normalise)
    always = [places for key in (cards.question.map(normalise), concepts) for places in _equal(key)]
    few = _equal(answers.where(~stock_answers(answers), cards.card_id))
    for places, largest in [(places, np.inf) for places in always] + [(places, limit) for places in few]:
        if sum(map(groups.subset_size, {groups[place] for place in places})) <= largest:
            for place in places[1:]:
                groups.merge(places[0], place)
    for one, other in zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True):
        if not groups.connected(one, other) and groups.subset_size(one) + groups.subset_size(other) <= limit:
            groups.merge(one, other)
    roots = pd.Series([groups[place] for place in range(len(cards))], index=cards.index)
    return concepts.groupby(roots).transform("min")


def _equal(key: pd.Series) -> list[list[int]]:
    """The places of each value that occurs several times, in the order of their first places."""
    codes = pd.factorize(key)[0]
    return [places.tolist() for places in pd.Series(codes).groupby(codes).indices.values() if len(places) > 1]


def _concepts(cards: pd.DataFrame) -> pd.Series:
    return cards.concept.where(cards.concept != "", cards.card_id)


def split_by_group(cards: pd.DataFrame, validation_share: float, test_share: float, seed: int) -> pd.Series:
    """Assign whole groups to ``train``, ``validation`` and ``test``.

    The splits get their shares of the cards, of each query set, and of each class of answer length
    (:data:`LENGTH_STRATA`). Groups are assigned in order of size, the largest first, in random order among groups of
    similar size. Each group goes to the split that lacks most of its share of such cards (after Sechidis et al., On
    the Stratification of Multi-Label Data, 2011).

    Parameters
    ----------
    cards : table with ``group``, ``query_set`` and ``answer``.
    validation_share, test_share : shares of the cards, between 0 and 1.
    seed : seed of the random order.

    Returns
    -------
    split : the name of each card's split.

    Raises
    ------
    InputError : a split would get no group.
    """
    rank = cards.answer.str.len().groupby(cards.query_set).rank(method="first", pct=True)
    length = np.ceil(rank * LENGTH_STRATA)
    group, groups = pd.factorize(cards.group, sort=True)
    stratum = cards.groupby([cards.query_set, length]).ngroup()
    content = np.zeros((len(groups), stratum.max() + 1), dtype=np.int64)  # one row per group, one column per stratum
    np.add.at(content, (group, stratum), 1)
    sizes = content.sum(axis=1)
    names, shares = np.array(SPLITS), np.array([1 - validation_share - test_share, validation_share, test_share])
    wanted = np.outer(shares, content.sum(axis=0))
    lacking, chosen = wanted.copy(), np.empty(len(content), dtype=int)
    shuffled = np.random.default_rng(seed).permutation(len(content))
    for row in shuffled[np.argsort(-np.log2(sizes[shuffled]).astype(int), kind="stable")]:
        counts = content[row]
        left = lacking - counts / 2  # cards that each split lacks when it holds half of the group
        share = left / wanted + (left.sum(axis=1) / wanted.sum(axis=1))[:, None]  # in each stratum, and in total
        chosen[row] = np.argmax(share @ counts)
        lacking[chosen[row]] -= counts
    split = pd.Series(names[chosen][group], index=cards.index)
    if missing := [name for name in SPLITS if not (split == name).any()]:
        largest, together = cards.question[group == sizes.argmax()].iloc[0], ""
        if sizes.max() > 1:
            together = f" (a group of {sizes.max()} cards, such as '{largest[:80]}', stays together)"
        raise InputError(
            f"the deck is too small to split: {len(cards)} cards in {len(content)} groups leave '{missing[0]}' empty"
            f"{together}; add cards of other questions (prepare.max_cards=0 keeps all), or raise "
            "prepare.validation_share and prepare.test_share"
        )
    return split
