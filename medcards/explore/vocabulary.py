"""What the words of a deck look like: lengths, vocabulary, the laws of Zipf and Heaps, ways of asking."""

import re
from collections import Counter

import numpy as np
import pandas as pd
from bm25s.stopwords import STOPWORDS_EN_PLUS

STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
POINTS = 60


def words(text: str) -> list[str]:
    """The words of a text, lower case, hyphenated words whole; of any script.

    >>> words("Anti-HBc: β-blocker's use, 5 mg.")
    ['anti-hbc', "β-blocker's", 'use', '5', 'mg']
    """
    return re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text.lower())


def length_statistics(tokens: pd.Series, model_tokens: np.ndarray) -> dict:
    """Length of each text in words and in model tokens, and the vocabulary of all.

    Parameters
    ----------
    tokens : the words of each text.
    model_tokens : each text's length in a model's tokens.

    Returns
    -------
    dict of counts; the type-token ratio is that of all texts together, so it falls as a deck grows.
    """
    counts = Counter(word for text in tokens for word in text)
    total = sum(counts.values())
    return {
        "texts": len(tokens),
        "words": _spread(tokens.map(len)) | {"total": total},
        "model_tokens": _spread(pd.Series(model_tokens)),
        "vocabulary": len(counts),
        "type_token_ratio": len(counts) / max(total, 1),
        "words_seen_once": sum(count == 1 for count in counts.values()),
    }


def _spread(lengths: pd.Series) -> dict:
    quartiles = lengths.quantile([0.25, 0.5, 0.75]).to_list()
    return {"mean": lengths.mean(), "quartiles": quartiles, "longest": int(lengths.max())}


def zipf(tokens: pd.Series) -> tuple[pd.DataFrame, float]:
    """Frequency of words by rank, at ranks spaced evenly on a log scale.

    Returns
    -------
    table of ``rank`` and ``count``, and the exponent s of count ~ rank^-s (Zipf's law), by least squares on logs.
    """
    counts = np.sort(list(Counter(word for text in tokens for word in text).values()))[::-1]
    ranks = _log_spaced(len(counts))
    table = pd.DataFrame({"rank": ranks, "count": counts[ranks - 1]})
    return table, -_slope(table["rank"], table["count"])


def heaps(tokens: pd.Series) -> tuple[pd.DataFrame, float]:
    """Size of the vocabulary after so many words, in the order of the table.

    Returns
    -------
    table of ``words`` and ``vocabulary``, and the exponent beta of vocabulary ~ words^beta (Heaps' law), likewise.
    """
    read = [word for text in tokens for word in text]
    new = np.zeros(len(read), dtype=int)
    new[np.unique(pd.factorize(np.array(read, dtype=object))[0], return_index=True)[1]] = 1
    seen = _log_spaced(len(read))
    table = pd.DataFrame({"words": seen, "vocabulary": new.cumsum()[seen - 1]})
    return table, _slope(table.words, table.vocabulary)


def _log_spaced(end: int) -> np.ndarray:
    return np.unique(np.geomspace(1, max(end, 1), POINTS).round().astype(int))[: max(end, 0)]


def _slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else 0.0


def frequent_terms(tokens: pd.Series, count: int) -> pd.DataFrame:
    """The words that stand in most texts, stop words left out: ``term``, ``texts`` and their ``share``."""
    texts = Counter(word for text in tokens for word in set(text) - STOP_WORDS)
    ranked = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:count]
    return pd.DataFrame(ranked, columns=["term", "texts"]).assign(share=lambda table: table.texts / len(tokens))


def first_words(tokens: pd.Series, count: int, length: int = 2) -> pd.DataFrame:
    """How the questions begin: the most frequent ``length`` first words, and all others, with their share."""
    begins = tokens.map(lambda text: " ".join(text[:length])).value_counts().sort_index(kind="stable")
    begins = begins.sort_values(ascending=False, kind="stable")
    rows = begins.head(count)
    if len(begins) > count:
        rows = pd.concat([rows, pd.Series({"(others)": begins.iloc[count:].sum()})])
    return pd.DataFrame({"begin": rows.index, "questions": rows.to_numpy(), "share": rows.to_numpy() / len(tokens)})
