"""Scores of an answer against a reference answer."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.answers.contradictions import CONTRADICTION_KINDS, contradictions, occasions
from medcards.answers.directions import is_direction
from medcards.deck.words import STOP_WORDS, fold, squad_tokens
from medcards.search.encoder import encode_answers

_STOP_WORDS = frozenset(word for text in STOP_WORDS if not is_direction(text) for word in squad_tokens(text))
_NAMED_A = re.compile(
    r"(?<=[^\W_][ -])A(?![\w'’])(?! [A-Z])|\b(?i:group|type|class|factor|vitamin|influenza|hepatitis) A\b"
)
_REFUSAL = re.compile(
    r"\b(as an ai|i('m| am) (sorry|unable|not able|not sure)|i (do not|don't) (know|have)|i (cannot|can't|can not)|"
    r"(cannot|can't|unable to) (answer|provide|help))\b"
)
_SENTENCE_END = re.compile(
    r"(?<!\b[^\W\d_])(?<!\b\d)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bDr)[.!?][\"')\]”’]*(?=\s+[^a-z\s]|\s*$)|[。！？]"
)
MAX_WORDS = 2000
"""ROUGE-L reads this many words of an answer at most, because its cost grows with the product of both lengths."""


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same words in the same order, else 0."""
    return float(squad_tokens(answer) == squad_tokens(reference))


def token_f1(answer: str, reference: str, weights: "TermWeights | None" = None) -> float:
    """F1 of the bags of words, as the SQuAD script computes it.

    Parameters
    ----------
    weights : the weight of each word; 1 by default.

    >>> token_f1("a cyst of the kidney", "kidney cyst")
    0.8
    """
    return _f1(squad_tokens(answer), squad_tokens(reference), weights)


def novel_f1(answer: str, reference: str, question: str, weights: "TermWeights | None" = None) -> float:
    """Token F1 after the question's words and stop words are removed from both sides.

    Repeating the question scores 0. The score is NaN where no word of the reference is left.

    >>> novel_f1("Epilepsy is a seizure disorder", "A disorder of the brain", "What is epilepsy?")
    0.5
    """
    said = set(scored_words(question))
    wanted = [word for word in scored_words(reference) if word not in said]
    if not wanted:
        return math.nan
    return _f1([word for word in scored_words(answer) if word not in said], wanted, weights)


def scored_words(text: str) -> list[str]:
    """The words of SQuAD without stop words. Directions such as "above" stay, and so does the A of "hepatitis A".

    A capital A within a sentence is a name, and no article, where the next word is not capitalised as in a title, and
    after words such as group and type.

    >>> scored_words("Hepatitis A is a disease above all")
    ['hepatitis', 'ᴀ', 'disease', 'above']
    """
    return [
        word for word in squad_tokens(_NAMED_A.sub(lambda found: f"{found[0][:-1]}ᴀ", text)) if word not in _STOP_WORDS
    ]


class TermWeights:
    """Inverse document frequency of a word in a deck.

    Smoothed as in scikit-learn: ``log((1 + texts) / (1 + texts with the word)) + 1``. A word in no text weighs most.

    >>> weights = TermWeights(["a renal cyst", "a renal stone"])
    >>> weights["cyst"] > weights["renal"] == 1.0
    True
    """

    def __init__(self, texts: Iterable[str]):
        bags = [set(squad_tokens(text)) for text in texts]
        self._found = Counter(word for bag in bags for word in bag)
        self._texts = len(bags)

    def __getitem__(self, word: str) -> float:
        return math.log((1 + self._texts) / (1 + self._found[word])) + 1


def is_refusal(answer: str) -> bool:
    """Whether a model declines, with words such as "I'm sorry", "I don't know", "As an AI" or "cannot provide"."""
    return bool(_REFUSAL.search(fold(answer)))


def score_answer(answer: str, reference: str, question: str, weights: TermWeights) -> dict[str, float]:
    """Every score of one answer that needs no model. To add a score, add a key here.

    ==========================  =====================================================================================
    em, token_f1                exact match and token F1 of SQuAD
    idf_f1                      token F1 with each word weighted by its inverse document frequency
    novel_f1, novel_idf_f1      token F1 and idf F1 without stop words and the question's words, see :func:`novel_f1`
    sound_f1                    novel F1, and 0 where the answer contradicts the reference
    rouge_l                     F-measure, stemmed (library: rouge_score)
    chrf                        character F-score (library: sacrebleu), divided by 100
    length_ratio                words of the answer by words of the reference
    no_answer                   1 for an empty answer and for a refusal
    echoed                      share of the answer's words without stop words that stand in the question
    contradiction               1 where a number, unit, side, direction or negation contradicts the reference, see
                                :mod:`medcards.answers.contradictions`
    contradiction_KIND          the same for one kind; NaN where the reference gives no occasion for it
    ==========================  =====================================================================================
    """
    asked, content = set(squad_tokens(question)), scored_words(answer)
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
        "no_answer": float(not squad_tokens(answer) or is_refusal(answer)),
        "echoed": sum(word in asked for word in content) / len(content) if content else math.nan,
        "contradiction": float(bool(found)),
        **{
            f"contradiction_{kind}": float(kind in found) if kind in could_be else math.nan
            for kind in CONTRADICTION_KINDS
        },
    }


def score_answers(
    answers: list[str], references: list[str], questions: list[str], weights: TermWeights
) -> pd.DataFrame:
    """The scores of :func:`score_answer`, one row per answer.

    Raises
    ------
    InputError : the lists differ in length, or an answer is no text.
    """
    if not len(answers) == len(references) == len(questions):
        raise InputError(
            f"{len(answers)} answers, {len(references)} references, {len(questions)} questions: give one of each"
        )
    for row, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise InputError(f"answer {row + 1} is {answer!r}: give a text, or an empty one")
    rows = zip(answers, references, questions, strict=True)
    return pd.DataFrame([score_answer(*row, weights) for row in rows])


def answer_scores(answers: pd.DataFrame, weights: TermWeights, encoder) -> dict[str, pd.DataFrame]:
    """Every score of every system's answers, one row per question.

    Parameters
    ----------
    answers : see :func:`medcards.answers.records.read_answers`.
    encoder : the bi-encoder that compares an answer with its reference.

    Returns
    -------
    by system the columns of :func:`score_answer`, ``similarity`` (cosine of the encoder's vectors), and for a language
    model ``nll`` (nats per token of the reference) and ``truncated``.
    """
    questions, references, found = answers.question.tolist(), answers.reference.tolist(), {}
    given = {system: [of[system] for of in answers.answers] for system in answers.answers[0]}
    distinct = list(dict.fromkeys(itertools.chain(references, *given.values())))
    places, vectors = {text: place for place, text in enumerate(distinct)}, encode_answers(encoder, distinct)
    targets = vectors[[places[text] for text in references]]
    for system, texts in given.items():
        scores = found[system] = score_answers(texts, references, questions, weights)
        scores["similarity"] = np.einsum("qd,qd->q", vectors[[places[text] for text in texts]], targets)
        if system in answers.nll[0]:
            scores["nll"] = [nll[system] for nll in answers.nll]
            scores["truncated"] = [float(truncated[system]) for truncated in answers.truncated]
    return found


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; all of it where no sentence ends.

    >>> whole_sentences("A cyst of 2.5 cm. It may")
    'A cyst of 2.5 cm.'
    """
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def whole_sentence_scores(answers: pd.DataFrame, weights: TermWeights) -> dict[str, pd.DataFrame]:
    """The scores of :func:`score_answers` after truncated answers are cut after their last whole sentence.

    Parameters
    ----------
    answers : see :func:`medcards.answers.records.read_answers`.

    Returns
    -------
    scores by system, one row per question, for the language models with a truncated answer.
    """
    found = {}
    for system in answers.truncated[0]:
        texts, truncated = ([of[system] for of in column] for column in (answers.answers, answers.truncated))
        if any(truncated):
            cut = [whole_sentences(text) if reached else text for text, reached in zip(texts, truncated, strict=True)]
            found[system] = score_answers(cut, answers.reference.tolist(), answers.question.tolist(), weights)
    return found


@cache
def _rouge():
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which takes a second

    return RougeScorer(["rougeL"], use_stemmer=True)


@cache
def _chrf():
    from sacrebleu.metrics import CHRF

    return CHRF()


def _f1(answer: list[str], reference: list[str], weights: TermWeights | None = None) -> float:
    """F1 of two bags of words, with the weight of each word."""
    if not answer or not reference:
        return float(answer == reference)

    def weight(words: Iterable[str]) -> float:
        return sum(weights[word] for word in words) if weights else float(sum(1 for _ in words))

    common = weight((Counter(answer) & Counter(reference)).elements())
    return 2 * common / (weight(answer) + weight(reference))
