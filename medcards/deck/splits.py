"""Which cards must stay together, and the split by those groups.

A group is what a test must not share with training: cards with one question, one answer or one concept, and
near-duplicates, which MinHash LSH finds (Broder, 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3; library: datasketch).
"""

from collections import Counter

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt
from scipy.cluster.hierarchy import DisjointSet
from tqdm import tqdm

from medcards import InputError
from medcards.base.params import Block
from medcards.deck.cards import SPLITS, normalise
from medcards.explore.vocabulary import STOP_WORDS

SMALL_GROUP = 20
"""So many cards may always form a group, however small the deck."""
NEIGHBOURS = 100
"""The most similar near-duplicates of each text are kept, so that memory grows with the cards, not with the pairs."""
PERMUTATIONS = 128
TEMPLATE_SHARE = 0.1
"""A word that stands in more than this share of the questions belongs to how they are asked, not to what is asked."""


class PrepareParams(Block):
    """How many cards, what makes a group of them, and the shares of the splits, see params.yaml."""

    max_cards: NonNegativeInt
    near_duplicate_threshold: float = Field(ge=0.2, le=1)
    join_share: float = Field(gt=0, le=1)
    stop_share: float = Field(gt=0, le=1)
    validation_share: float = Field(gt=0, lt=0.5)
    test_share: float = Field(gt=0, lt=0.5)


def draw_concepts(cards: pd.DataFrame, max_cards: int, seed: int) -> pd.DataFrame:
    """A seeded sample of whole concepts with at most ``max_cards`` cards, in the order of the table."""
    concepts = _concepts(cards)
    sizes = concepts.value_counts().sort_index()
    sizes = sizes.iloc[np.random.default_rng(seed).permutation(len(sizes))]
    kept = sizes.index[sizes.cumsum() <= max_cards]
    return cards[concepts.isin(kept)].reset_index(drop=True)


def near_duplicates(cards: pd.DataFrame, threshold: float, seed: int) -> pd.DataFrame:
    """Pairs of cards whose questions, or whose questions with answers, share most of their words.

    A word is a shingle. The question's template is taken off first: stop words, and the words that stand in more than
    a tenth of all questions ("What is", "Define"). LSH proposes pairs; their Jaccard similarity is then computed, not
    estimated.

    Returns
    -------
    table of ``first``, ``second`` (positions in ``cards``, first < second) and ``similarity``, at least ``threshold``.
    """
    questions = [normalise(text).split() for text in cards.question]
    counts = Counter(word for words in questions for word in set(words))
    often = max(TEMPLATE_SHARE * len(cards), SMALL_GROUP)
    template = STOP_WORDS | {word for word, count in counts.items() if count > often}
    asked = [frozenset(words) - template or frozenset(words) for words in questions]
    whole = [words.union(normalise(text).split()) for words, text in zip(asked, cards.answer, strict=True)]
    found = [_similar(sets, threshold, seed, side) for sets, side in ((asked, "questions"), (whole, "cards"))]
    pairs = pd.concat(found).groupby(["first", "second"], as_index=False).similarity.max()
    return pairs.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _similar(sets: list[frozenset], threshold: float, seed: int, side: str) -> pd.DataFrame:
    """Pairs of sets with a Jaccard similarity of at least ``threshold``."""
    from datasketch import MinHash, MinHashLSH

    copies: dict[frozenset, list[int]] = {}  # equal sets fill the same buckets, so only the first is looked up
    for place, words in enumerate(sets):
        copies.setdefault(words, []).append(place)
    distinct = list(copies)
    found = [(places[0], place, 1.0) for places in copies.values() for place in places[1:]]
    # A pair that is missed leaks, one proposed in vain only costs time.
    lsh = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    signatures = MinHash.generator(
        ([word.encode() for word in words] for words in distinct), num_perm=PERMUTATIONS, seed=seed
    )
    for place, signature in enumerate(tqdm(signatures, desc=f"near-duplicate {side}", total=len(distinct), delay=1)):
        words, near = distinct[place], []
        for other in lsh.query(signature):
            shared = len(words & distinct[other])
            similarity = shared / (len(words) + len(distinct[other]) - shared)
            if similarity >= threshold:
                near.append((similarity, other))
        near.sort(key=lambda pair: (-pair[0], pair[1]))
        ends = (sorted((copies[words][0], copies[distinct[other]][0])) for _, other in near[:NEIGHBOURS])
        found += [(*end, similarity) for end, (similarity, _) in zip(ends, near, strict=False)]
        lsh.insert(place, signature, check_duplication=False)
    return pd.DataFrame(found, columns=["first", "second", "similarity"])


def group_cards(cards: pd.DataFrame, pairs: pd.DataFrame, join_share: float, stop_share: float) -> pd.Series:
    """The group of each card.

    Cards with an equal question, an equal answer (after :func:`medcards.deck.cards.normalise`) or the same concept are
    always in one group. Then near-duplicates join, the most similar pair first, as long as the joined group holds at
    most ``join_share`` of the cards or :data:`SMALL_GROUP` cards: single linkage under a size limit, because chains
    of near-duplicates would otherwise join a quarter of the ontology deck. A pair that is kept apart by the limit is
    a leak that the audit measures.

    Parameters
    ----------
    pairs : what :func:`near_duplicates` found.

    Returns
    -------
    the group of each card, named after its smallest concept, or its smallest card id where there is none.

    Raises
    ------
    InputError : a group is larger than ``stop_share`` of the cards and :data:`SMALL_GROUP` cards.
    """
    groups = DisjointSet(range(len(cards)))
    concepts = _concepts(cards)
    for key in (cards.question.map(normalise), cards.answer.map(normalise), concepts):
        first = np.unique(pd.factorize(key)[0], return_index=True)[1]
        for place, code in enumerate(pd.factorize(key)[0]):
            groups.merge(int(first[code]), place)
    limit = max(SMALL_GROUP, join_share * len(cards))
    for one, other in zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True):
        if not groups.connected(one, other) and groups.subset_size(one) + groups.subset_size(other) <= limit:
            groups.merge(one, other)
    roots = pd.Series([groups[place] for place in range(len(cards))], index=cards.index)
    sizes = roots.value_counts()
    if sizes.iloc[0] > max(SMALL_GROUP, stop_share * len(cards)):
        example = cards.question[roots == sizes.index[0]].iloc[:2].tolist()
        raise InputError(
            f"{sizes.iloc[0]} of {len(cards)} cards form one group, for example {example}: they share a question, an "
            f"answer or a concept; mend the deck, or raise prepare.stop_share={stop_share}"
        )
    return concepts.groupby(roots).transform("min")


def _concepts(cards: pd.DataFrame) -> pd.Series:
    return cards.concept.where(cards.concept != "", cards.card_id)


def split_by_group(
    cards: pd.DataFrame, validation_share: float, test_share: float, seed: int, strata: int = 4
) -> pd.Series:
    """Assign whole groups to ``train``, ``validation`` and ``test`` so that the splits look alike.

    Alike in size, query sets and answer length: the groups are dealt out, large ones first and shuffled among their
    like, each to the split that lacks most of its share of such cards (after Sechidis et al., On the Stratification
    of Multi-Label Data, 2011).

    Parameters
    ----------
    cards : with ``group``, ``query_set`` and ``answer``.
    validation_share, test_share : shares of the cards, between 0 and 1.
    strata : number of answer-length classes, of equal size, in each query set.

    Raises
    ------
    InputError : a split would get no group.
    """
    rank = cards.answer.str.len().groupby(cards.query_set).rank(method="first", pct=True)
    length = np.ceil(rank * strata)
    content = pd.crosstab(cards.group, [cards.query_set, length])  # one row a group, one column a stratum
    sizes = content.sum(axis=1).to_numpy()
    names, shares = np.array(SPLITS), np.array([1 - validation_share - test_share, validation_share, test_share])
    wanted = np.outer(shares, content.sum())
    lacking, chosen = wanted.copy(), np.empty(len(content), dtype=int)
    shuffled = np.random.default_rng(seed).permutation(len(content))
    for row in shuffled[np.argsort(-np.log2(sizes[shuffled]).astype(int), kind="stable")]:
        counts = content.to_numpy()[row]
        left = lacking - counts / 2  # what it lacks while half of the group is in
        share = left / wanted + (left.sum(axis=1) / wanted.sum(axis=1))[:, None]  # of this stratum, and of all
        chosen[row] = np.argmax(share @ counts)
        lacking[chosen[row]] -= counts
    split = cards.group.map(pd.Series(names[chosen], index=content.index))
    if missing := [name for name in SPLITS if not (split == name).any()]:
        raise InputError(
            f"the deck is too small to split: {len(cards)} cards in {len(content)} groups leave '{missing[0]}' empty; "
            "add cards (prepare.max_cards=0 keeps all), or raise prepare.validation_share and prepare.test_share"
        )
    return split
