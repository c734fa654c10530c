"""How an answer is scored against a reference answer."""

import math
import string
from collections import Counter

from bm25s.stopwords import STOPWORDS_EN_PLUS

_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STOP_WORDS = frozenset(word.translate(_PUNCTUATION) for word in STOPWORDS_EN_PLUS)


def tokens(text: str) -> list[str]:
    """Words after SQuAD's normalisation (Rajpurkar et al., 2016): lower case, no punctuation, no articles.

    >>> tokens("The beta-blocker, a drug")
    ['betablocker', 'drug']
    """
    return [word for word in text.lower().translate(_PUNCTUATION).split() if word not in _ARTICLES]


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same words in the same order, else 0."""
    return float(tokens(answer) == tokens(reference))


def token_f1(answer: str, reference: str) -> float:
    """F1 of the bags of words, as the SQuAD script computes it.

    >>> token_f1("a cyst of the kidney", "kidney cyst")
    0.8
    """
    return _f1(tokens(answer), tokens(reference))


def novel_f1(answer: str, reference: str, question: str) -> float:
    """Token F1 of what the question did not say: its words and stop words are removed from both sides.

    Repeating the question scores 0. NaN where the reference itself says nothing new.

    >>> novel_f1("Epilepsy is a seizure disorder", "A disorder of the brain", "What is epilepsy?")
    0.5
    """
    said = set(tokens(question)) | _STOP_WORDS
    wanted = [word for word in tokens(reference) if word not in said]
    if not wanted:
        return math.nan
    return _f1([word for word in tokens(answer) if word not in said], wanted)


def score_answer(answer: str, reference: str, question: str) -> dict[str, float]:
    """Every score of one answer."""
    return {
        "em": exact_match(answer, reference),
        "token_f1": token_f1(answer, reference),
        "novel_f1": novel_f1(answer, reference, question),
    }


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference))
