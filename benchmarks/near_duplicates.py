"""Near-duplicates of a deck: datasketch's defaults, one card after another, against the stage prepare.

    python -m benchmarks.run near_duplicates

The plain way adds the words of a card to a MinHash one by one and asks an LSH index with datasketch's default weights.
Both ways compare the same sets of words: those of the questions, and those of questions with answers. Quality is the
number of pairs that both ways find, and that one way finds alone.
"""

from collections import Counter
from collections.abc import Iterator

import pandas as pd
from datasketch import MinHash, MinHashLSH

from benchmarks.material import Deck, blocks
from benchmarks.measure import Benchmark, Way
from medcards.deck.splits import TEMPLATE_SHARE, PrepareParams, near_duplicates
from medcards.deck.words import STOP_WORDS, normalise

CARDS = 6000


def benchmarks(cards: int) -> Iterator[Benchmark]:
    seed, params = blocks(prepare=PrepareParams)
    deck = Deck(seed).cards
    deck = deck.sample(min(cards, len(deck)), random_state=seed).reset_index(drop=True)
    threshold = params.near_duplicate_threshold

    def ours(_: object) -> set[tuple[int, int]]:
        pairs = near_duplicates(deck, threshold, seed)
        return set(zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True))

    def quality(one: set, other: set) -> dict[str, str]:
        return {
            "pairs of both": f"{len(one & other):,}",
            "plain only": f"{len(one - other):,}",
            "this way only": f"{len(other - one):,}",
        }

    ways = {"datasketch's defaults": Way(lambda _: plain_pairs(deck, threshold)), "ours": Way(ours, ours=True)}
    yield Benchmark("near-duplicates", f"{len(deck):,} cards", ways, quality)


def plain_pairs(cards: pd.DataFrame, threshold: float) -> set[tuple[int, int]]:
    """Positions of cards with similar questions, or with similar questions and answers."""
    questions = [normalise(text).split() for text in cards.question]
    counts = Counter(word for words in questions for word in set(words))
    template = STOP_WORDS | {word for word, count in counts.items() if count > TEMPLATE_SHARE * len(cards)}
    asked = [set(words) - template or set(words) for words in questions]
    whole = [words | set(normalise(text).split()) for words, text in zip(asked, cards.answer, strict=True)]
    pairs = set()
    for sets in (asked, whole):
        lsh = MinHashLSH(threshold=threshold)
        for place, words in enumerate(sets):
            signature = MinHash()
            for word in words:
                signature.update(word.encode())
            for other in lsh.query(signature):
                if len(words & sets[other]) >= threshold * len(words | sets[other]):
                    pairs.add((other, place))
            lsh.insert(place, signature)
    return pairs
