"""Pairs of sets of words with a large Jaccard similarity.

MinHash LSH proposes pairs (Broder, 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3;
library: datasketch). The similarity of each proposed pair is then computed exactly. The time grows with the number of
words and with the number of proposed pairs.
"""

from array import array
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from medcards.base.workers import ComputeParams, Workers, map_batches

NEIGHBOURS = 100
"""Number of similar sets kept per set, the most similar first. Memory then grows with the number of sets."""
AGREEING = 1000
"""Number of earlier sets that agree with a set in a band and are compared with it. Time then grows with the number of
sets."""
PERMUTATIONS = 128
"""Length of a MinHash signature."""
PAIR_BLOCK = 50_000
"""Number of proposed pairs that are compared at a time. It bounds the memory."""
SKETCH_WORDS = 8
"""Number of 64-bit words in the sketch of a set."""


def similar_sets(
    sets: Iterable[Set[str]], threshold: float, seed: int, title: str = "sets", compute: ComputeParams | None = None
) -> pd.DataFrame:
    """Find pairs of sets of words with a Jaccard similarity of at least ``threshold``.

    Every pair that is found is similar enough, but not every such pair is found. MinHash may not propose it. In each
    band a set is compared with :data:`AGREEING` earlier ones at most, and it is paired with :data:`NEIGHBOURS` at most.
    A set that repeats an earlier one is paired with that one only. So the number of pairs is a lower bound.

    Parameters
    ----------
    sets : sets of words, none of them empty. They are not kept in memory.
    threshold : between 0 and 1.
    seed : seed of the MinHash permutations.
    title : what the progress bar calls the sets.
    compute : the cluster that compares the sets, see :class:`medcards.base.workers.Workers`.

    Returns
    -------
    pairs : table of ``first`` and ``second`` (places in ``sets``, first < second) and ``similarity``.
    """
    from datasketch import MinHashLSH

    bags, words = _bags(sets)
    copy_of = pd.factorize(pd.Series([row.tobytes() for row in np.split(bags.indices, bags.indptr[1:-1])]))[0]
    first = np.unique(copy_of, return_index=True)[1]
    copies = np.flatnonzero(first[copy_of] != np.arange(len(copy_of)))
    found = [pd.DataFrame({"first": first[copy_of[copies]], "second": copies, "similarity": 1.0})]
    bags = bags[first]
    # A missed pair may leak. A proposed pair below the threshold only costs time. So misses weigh nine times as much.
    lsh = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    banded = _banded(bags, _word_hashes(words, seed), lsh.b, lsh.r)
    compared = Compared(bags, np.diff(bags.indptr), _sketches(bags), *banded, threshold)
    workers = Workers.on(compute, partial(Compared, **vars(compared)))
    blocks = _blocks(compared.before)
    pairs = dict(map_batches(_similar_in_block, compared, blocks, workers, f"near-duplicate {title}"))
    of_distinct = pd.concat([pairs[block] for block in range(len(blocks))])
    found.append(of_distinct.assign(first=first[of_distinct["first"]], second=first[of_distinct["second"]]))
    return pd.concat(found)


@dataclass
class Compared:
    """Sets of words, as they are compared.

    Parameters
    ----------
    bags, sketches : see :func:`_bags` and :func:`_sketches`.
    sizes : number of words of each set.
    order, place, before : see :func:`_banded`.
    threshold : the smallest similarity of a pair.
    """

    bags: sparse.csr_array
    sizes: np.ndarray
    sketches: np.ndarray
    order: np.ndarray
    place: np.ndarray
    before: np.ndarray
    threshold: float


def _bags(sets: Iterable[Set[str]]) -> tuple[sparse.csr_array, list[str]]:
    """The sets as rows of a matrix of zeros and ones, shape (sets, words); and the words."""
    numbers: dict[str, int] = {}
    ends = array("q", [0])

    def columns() -> Iterator[int]:
        for words in sets:
            ends.append(ends[-1] + len(words))
            yield from sorted([numbers.setdefault(word, len(numbers)) for word in words])

    indices = np.fromiter(columns(), dtype=np.int32)
    ones, shape = np.ones(len(indices), dtype=np.int8), (len(ends) - 1, len(numbers))
    return sparse.csr_array((ones, indices, np.array(ends)), shape=shape), list(numbers)


def _word_hashes(words: list[str], seed: int) -> np.ndarray:
    """The MinHash signatures of words, shape (:data:`PERMUTATIONS`, words). datasketch's hashes have 32 bits."""
    from datasketch import MinHash

    hashed = MinHash.generator(([word.encode()] for word in words), num_perm=PERMUTATIONS, seed=seed)
    found = np.empty((PERMUTATIONS, len(words)), dtype=np.uint32)
    for place, word in enumerate(hashed):
        found[:, place] = word.hashvalues
    return found


def _banded(
    bags: sparse.csr_array, hashes: np.ndarray, bands: int, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sets of each band sorted by what they have in the band, so that those that agree stand side by side.

    A set's signature has the smallest hashes of its words, by permutation. A band is ``rows`` numbers of it.

    Parameters
    ----------
    hashes : see :func:`_word_hashes`.

    Returns
    -------
    order : the sets by their place, shape (bands, sets).
    place : the place of each set, shape (bands, sets).
    before : the number of sets that stand before a set and agree with it, at most :data:`AGREEING`, shape (bands,
        sets).
    """
    sets, everyone = bags.shape[0], np.arange(bags.shape[0])
    order, place, before = (np.empty((bands, sets), dtype=np.int32) for _ in range(3))
    mix = np.random.default_rng(0).integers(2**64, size=rows, dtype=np.uint64)  # unequal bands rarely get equal keys
    for band in range(bands):
        keys = np.zeros(sets, dtype=np.uint64)
        for values, factor in zip(hashes[band * rows : (band + 1) * rows], mix, strict=True):
            keys += np.minimum.reduceat(values[bags.indices], bags.indptr[:-1]).astype(np.uint64) * factor
        order[band] = np.argsort(keys, kind="stable")
        opens = np.diff(keys[order[band]], prepend=keys[order[band, 0]]) != 0
        place[band, order[band]] = everyone
        before[band, order[band]] = np.minimum(everyone - np.maximum.accumulate(opens * everyone), AGREEING)
    return order, place, before


def _blocks(before: np.ndarray) -> list[np.ndarray]:
    """The sets in blocks, whose pairs with earlier sets are about :data:`PAIR_BLOCK`."""
    full = before.sum(axis=0, dtype=np.int64).cumsum() // PAIR_BLOCK
    return np.split(np.arange(before.shape[1]), np.flatnonzero(np.diff(full)) + 1)


def _similar_in_block(compared: Compared, block: np.ndarray) -> pd.DataFrame:
    """The similar pairs of the sets of a block with earlier sets that share a whole band with them.

    A set keeps the :data:`NEIGHBOURS` most similar ones.
    """
    bands, sets = compared.before.shape
    counts = compared.before[:, block].ravel()
    ends = (compared.place[:, block] + sets * np.arange(bands)[:, None]).ravel()
    places = np.repeat(ends - counts.cumsum(), counts) + np.arange(counts.sum())
    one, other = compared.order.ravel()[places], np.repeat(np.tile(block, bands), counts)
    possible = _possible(compared, one, other)
    pairs = np.unique(other[possible] * sets + one[possible])  # once, where several bands agree
    found = _verified(compared, pairs % sets, pairs // sets)
    return found.sort_values(["similarity", "first"], ascending=[False, True]).groupby("second").head(NEIGHBOURS)


def _sketches(bags: sparse.csr_array) -> np.ndarray:
    """A few bits per set, shape (sets, :data:`SKETCH_WORDS`). Each word of a set flips one bit."""
    bits, lanes = np.uint64(1) << (bags.indices % 64).astype(np.uint64), bags.indices // 64 % SKETCH_WORDS
    flips = (np.where(lanes == lane, bits, np.uint64(0)) for lane in range(SKETCH_WORDS))
    return np.stack([np.bitwise_xor.reduceat(lane, bags.indptr[:-1]) for lane in flips], axis=1)


def _possible(compared: Compared, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which pairs of sets may be similar, by their sketches. Most pairs are refused, and their words are not read.

    Two sets differ in at least as many words as their sketches differ in bits (Sandes, Teodoro and Melo, Bitmap Filter,
    Information Systems, 2020).
    """
    sizes, sketches, threshold = compared.sizes, compared.sketches, compared.threshold
    different = np.bitwise_count(sketches[one] ^ sketches[other]).sum(axis=1)
    both = sizes[one] + sizes[other]
    return different <= (1 - threshold) / (1 + threshold) * both + 1e-6  # similarity = (both - d) / (both + d)


def _verified(compared: Compared, one: np.ndarray, other: np.ndarray) -> pd.DataFrame:
    """The pairs of sets with a Jaccard similarity of at least the threshold."""
    bags, sizes = compared.bags, compared.sizes
    shared = bags[one].multiply(bags[other]).sum(axis=1)
    pairs = pd.DataFrame({"first": one, "second": other, "similarity": shared / (sizes[one] + sizes[other] - shared)})
    return pairs[pairs.similarity >= compared.threshold]
