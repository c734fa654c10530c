"""Statistics of a deck's words: lengths, vocabulary, the laws of Zipf and Heaps, and how questions begin."""

from collections import Counter

import numpy as np
import pandas as pd

from medcards.deck.words import STOP_WORDS, words

CURVE_POINTS = 60
"""Largest number of points of a Zipf or Heaps curve."""
SHOWN_TERMS = 15
"""Number of terms, and of question beginnings, in a table."""
BEGINNING_WORDS = 2
"""Number of words of a question's beginning."""


def describe_words(
    cards: pd.DataFrame, question_tokens: np.ndarray, answer_tokens: np.ndarray
) -> tuple[dict[str, dict], dict[str, pd.DataFrame]]:
    """Describe the words of the questions and of the answers.

    Parameters
    ----------
    cards : the corpus, see :func:`medcards.deck.cards.corpus`.
    question_tokens, answer_tokens : length of each text in a model's tokens, shape (cards,).

    Returns
    -------
    metrics : :func:`length_statistics` and the exponents of Zipf's and Heaps' laws, for ``questions`` and ``answers``.
    tables : ``lengths`` (number of texts by text, unit and length), ``words`` (points of the Zipf and Heaps curves),
        ``terms`` and ``first_words``.
    """
    tokens = {"questions": cards.question.map(words), "answers": cards.answer.map(words)}
    model_tokens = {"questions": question_tokens, "answers": answer_tokens}
    laws = {"zipf": zipf, "heaps": heaps}
    curves = {(law, name): fit(texts) for law, fit in laws.items() for name, texts in tokens.items()}
    metrics = {
        name: length_statistics(texts, model_tokens[name]) | {f"{law}_exponent": curves[law, name][1] for law in laws}
        for name, texts in tokens.items()
    }
    terms = [frequent_terms(texts, SHOWN_TERMS).assign(of=f"terms of {name}") for name, texts in tokens.items()]
    tables = {
        "lengths": length_counts(tokens, model_tokens),
        "words": pd.concat(
            curve.set_axis(["x", "y"], axis=1).assign(law=law, text=name) for (law, name), (curve, _) in curves.items()
        ),
        "terms": pd.concat(terms),
        "first_words": first_words(tokens["questions"], SHOWN_TERMS).assign(of="first two words of questions"),
    }
    return metrics, tables


def length_statistics(tokens: pd.Series, model_tokens: np.ndarray) -> dict:
    """Lengths of the texts in words and in model tokens, and their vocabulary.

    Parameters
    ----------
    tokens : the words of each text.
    model_tokens : length of each text in a model's tokens.

    Returns
    -------
    numbers of texts, words and distinct words, and statistics of the lengths. ``type_token_ratio`` is that of all texts
    together, so it falls as a deck grows.
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


def length_counts(tokens: dict[str, pd.Series], model_tokens: dict[str, np.ndarray]) -> pd.DataFrame:
    """The number of texts of each length: ``text`` (a key of ``tokens``), ``unit``, ``length`` and ``texts``."""
    units = {"words": {name: texts.map(len) for name, texts in tokens.items()}, "model tokens": model_tokens}
    lengths = [
        pd.DataFrame({"text": name, "unit": unit, "length": of[name]}) for unit, of in units.items() for name in tokens
    ]
    counts = pd.concat(lengths).value_counts().rename("texts").reset_index()
    return counts.sort_values(["unit", "text", "length"])


def zipf(tokens: pd.Series) -> tuple[pd.DataFrame, float]:
    """Fit Zipf's law, count ~ rank^-s, by least squares on logarithms.

    Returns
    -------
    curve : table of ``rank`` and ``count``, at ranks that are evenly spaced on a logarithmic scale.
    exponent : s.
    """
    counts = np.sort(list(Counter(word for text in tokens for word in text).values()))[::-1]
    ranks = _log_spaced(len(counts))
    table = pd.DataFrame({"rank": ranks, "count": counts[ranks - 1]})
    return table, -_slope(table["rank"], table["count"])


def heaps(tokens: pd.Series) -> tuple[pd.DataFrame, float]:
    """Fit Heaps' law, vocabulary ~ words^beta, by least squares on logarithms. Texts are read in their order.

    Returns
    -------
    curve : table of ``words`` read and ``vocabulary`` so far.
    exponent : beta.
    """
    read = [word for text in tokens for word in text]
    new = np.zeros(len(read), dtype=int)
    new[np.unique(pd.factorize(np.array(read, dtype=object))[0], return_index=True)[1]] = 1
    seen = _log_spaced(len(read))
    table = pd.DataFrame({"words": seen, "vocabulary": new.cumsum()[seen - 1]})
    return table, _slope(table.words, table.vocabulary)


def _log_spaced(end: int) -> np.ndarray:
    return np.unique(np.geomspace(1, max(end, 1), CURVE_POINTS).round().astype(int))[: max(end, 0)]


def _slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else 0.0


def frequent_terms(tokens: pd.Series, count: int) -> pd.DataFrame:
    """The words that occur in the most texts, without stop words.

    Returns
    -------
    table of ``text`` (the word), ``texts`` (the number of texts with it) and ``share`` (of all texts).
    """
    texts = Counter(word for text in tokens for word in set(text) - STOP_WORDS)
    ranked = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:count]
    return pd.DataFrame(ranked, columns=["text", "texts"]).assign(share=lambda table: table.texts / len(tokens))


def first_words(tokens: pd.Series, count: int) -> pd.DataFrame:
    """The most frequent beginnings of questions, and all others as one row.

    Returns
    -------
    table of ``text`` (the first two words), ``questions`` (their number) and ``share`` (of all questions).
    """
    begins = tokens.map(lambda text: " ".join(text[:BEGINNING_WORDS])).value_counts().sort_index(kind="stable")
    begins = begins.sort_values(ascending=False, kind="stable")
    rows = begins.head(count)
    if len(begins) > count:
        rows = pd.concat([rows, pd.Series({"(others)": begins.iloc[count:].sum()})])
    return pd.DataFrame({"text": rows.index, "questions": rows.to_numpy(), "share": rows.to_numpy() / len(tokens)})
