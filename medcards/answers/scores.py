"""How an answer is scored against a reference answer."""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable
from functools import cache

import pandas as pd
from bm25s.stopwords import STOPWORDS_EN_PLUS
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from medcards import InputError
from medcards.answers.contradictions import KINDS, contradictions, occasions

_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STOP_WORDS = frozenset(word.translate(_PUNCTUATION) for word in STOPWORDS_EN_PLUS)
_REFUSAL = re.compile(
    r"\b(as an ai|i('m| am) (sorry|unable|not able|not sure)|i (do not|don't) (know|have)|i (cannot|can't|can not)|"
    r"(cannot|can't|unable to) (answer|provide|help))\b"
)
MAX_WORDS = 2000
"""ROUGE-L's cost grows with the product of two lengths; of a longer answer it sees the first so many words."""


def tokens(text: str) -> list[str]:
    """Words after SQuAD's normalisation (Rajpurkar et al., 2016): lower case, no punctuation, no articles.

    >>> tokens("The beta-blocker, a drug")
    ['betablocker', 'drug']
    """
    return [word for word in text.lower().translate(_PUNCTUATION).split() if word not in _ARTICLES]


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same words in the same order, else 0."""
    return float(tokens(answer) == tokens(reference))


def token_f1(answer: str, reference: str, weights: "TermWeights | None" = None) -> float:
    """F1 of the bags of words, as the SQuAD script computes it; ``weights`` says what a word weighs if not 1.

    >>> token_f1("a cyst of the kidney", "kidney cyst")
    0.8
    """
    return _f1(tokens(answer), tokens(reference), weights)


def novel_f1(answer: str, reference: str, question: str, weights: "TermWeights | None" = None) -> float:
    """Token F1 of what the question did not say: its words and stop words are removed from both sides.

    Repeating the question scores 0. NaN where the reference itself says nothing new.

    >>> novel_f1("Epilepsy is a seizure disorder", "A disorder of the brain", "What is epilepsy?")
    0.5
    """
    said = set(tokens(question)) | _STOP_WORDS
    wanted = [word for word in tokens(reference) if word not in said]
    if not wanted:
        return math.nan
    return _f1([word for word in tokens(answer) if word not in said], wanted, weights)


class TermWeights:
    """How much a word tells: the logarithm of how few texts of a deck have it (inverse document frequency).

    Smoothed as scikit-learn's: ``log((1 + texts) / (1 + texts with the word)) + 1``; one that no text has weighs most.

    >>> weights = TermWeights(["a renal cyst", "a renal stone"])
    >>> weights["cyst"] > weights["renal"] == 1.0
    True
    """

    def __init__(self, texts: Iterable[str]):
        bags = [set(tokens(text)) for text in texts]
        self._found = Counter(word for bag in bags for word in bag)
        self._texts = len(bags)

    def __getitem__(self, word: str) -> float:
        return math.log((1 + self._texts) / (1 + self._found[word])) + 1


def is_refusal(answer: str) -> bool:
    """Whether a model declines: "I'm sorry", "I don't know", "As an AI", "cannot provide" and the like."""
    return bool(_REFUSAL.search(answer.lower().replace("’", "'")))


def score_answer(answer: str, reference: str, question: str, weights: TermWeights) -> dict[str, float]:
    """Every score of one answer that needs no model.

    ==========================  =====================================================================================
    em, token_f1                SQuAD's
    idf_f1                      token F1 with each word weighted by its inverse document frequency
    novel_f1, novel_idf_f1      the same two without stop words and the question's words, see :func:`novel_f1`
    sound_f1                    novel F1, and 0 where the answer contradicts the reference
    rouge_l                     F-measure, stemmed (library: rouge_score)
    chrf                        character F-score (library: sacrebleu), divided by 100
    length_ratio                words of the answer by words of the reference
    no_answer                   1 for an empty answer and for a refusal
    echoed                      share of the answer's words, stop words left out, that the question has
    contradiction               1 where a number, unit, side or negation contradicts the reference's, see
                                :mod:`medcards.answers.contradictions`; ``contradiction_KIND`` for each kind, NaN where the
                                reference gives no occasion for it
    ==========================  =====================================================================================
    """
    asked, content = set(tokens(question)), [word for word in tokens(answer) if word not in _STOP_WORDS]
    found, could_be = contradictions(answer, reference), occasions(reference)
    novel = novel_f1(answer, reference, question)
    return {
        "em": exact_match(answer, reference),
        "token_f1": token_f1(answer, reference),
        "idf_f1": token_f1(answer, reference, weights),
        "novel_f1": novel,
        "novel_idf_f1": novel_f1(answer, reference, question, weights),
        "sound_f1": novel * (not found),
        "rouge_l": _rouge().score(reference, " ".join(answer.split()[:MAX_WORDS]))["rougeL"].fmeasure,
        "chrf": _chrf().sentence_score(answer, [reference]).score / 100,
        "length_ratio": len(answer.split()) / max(1, len(reference.split())),
        "no_answer": float(not tokens(answer) or is_refusal(answer)),
        "echoed": sum(word in asked for word in content) / len(content) if content else math.nan,
        "contradiction": float(bool(found)),
        **{f"contradiction_{kind}": float(kind in found) if kind in could_be else math.nan for kind in KINDS},
    }


def score_answers(
    answers: list[str], references: list[str], questions: list[str], weights: TermWeights
) -> pd.DataFrame:
    """The scores of :func:`score_answer`, one row an answer.

    Raises
    ------
    InputError : the three lists have not one length, or an answer is no text.
    """
    if not len(answers) == len(references) == len(questions):
        raise InputError(
            f"{len(answers)} answers, {len(references)} references, {len(questions)} questions: one of each"
        )
    for row, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise InputError(f"answer {row + 1} is {answer!r}: a text is needed, empty if there is none")
    rows = zip(answers, references, questions, strict=True)
    return pd.DataFrame([score_answer(*row, weights) for row in rows])


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)


@cache
def _chrf() -> CHRF:
    return CHRF()


def _f1(answer: list[str], reference: list[str], weights: TermWeights | None = None) -> float:
    """F1 of two bags of words, each word weighing 1, or what ``weights`` says."""
    if not answer or not reference:
        return float(answer == reference)

    def weight(words: Iterable[str]) -> float:
        return sum(weights[word] for word in words) if weights else float(sum(1 for _ in words))

    common = weight((Counter(answer) & Counter(reference)).elements())
    return 2 * common / (weight(answer) + weight(reference))
