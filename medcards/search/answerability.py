"""Whether the deck holds the answer of a question: a probability from what the search finds.

A logistic regression reads the evidence of a search (:func:`evidence`). It is fitted on validation questions that are
asked of three decks: the whole deck, the deck without their relevant answers, and the deck without their topic. So a
probability is that of a question for which the three are equally likely before the search.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError, model_validator

from medcards import InputError
from medcards.base.files import atomic, read_json
from medcards.base.params import Block
from medcards.search.perturbations import PERTURBATIONS
from medcards.search.query_sets import QuerySet
from medcards.search.rankings import Ranking
from medcards.search.systems import Retriever, Served

MODEL_FILE = "answerability.json"
FEATURES = (
    "similarity",
    "margin",
    "margin_10",
    "margin_50",
    "coverage",
    "best_coverage",
    "known_words",
    "agreement",
    "shortfall",
)
"""The evidence that the model reads, see :func:`evidence` and :func:`with_shortfall`."""
ASKED_DECKS = WHOLE_DECK, HIDDEN, OFF_TOPIC = "whole", "hidden", "off_topic"
"""The decks that a question is asked of: as it is, without its relevant answers, and without its topic."""
UNUSUAL = 0.1
"""Share of the answerable questions whose similarity is below the usual one."""
AGREEMENT_DEPTH = 10
"""Number of first answers of BM25 and of the bi-encoder that are compared."""
PARTS = 10
"""Number of parts of the groups; the probabilities of each are those of a model fitted on the others."""
REGULARISATION = 1.0
"""Inverse strength of the L2 penalty on the weights of standardised evidence: scikit-learn's default."""
SMALLEST_SCALE = 1e-9
"""Smallest standard deviation of evidence that differs between questions. A smaller one is a rounding error."""
ROUNDING = 1e-9
"""Largest rounding error of a share: 0.29 times 100 is 28.999999999999996."""
EVEN = 0.5
"""Probability from which an answer is more likely than none. A question is never refused above it."""


class Answerability(Block, allow_inf_nan=False):
    """The fitted model, as the numbers of answerability.json.

    Parameters
    ----------
    features : names of the evidence that the model reads.
    means, scales : mean and standard deviation of each feature, by which it is standardised.
    weights, intercept : of the logistic regression, in log-odds.
    usual_similarity : the similarity from which a question has no shortfall, see :func:`with_shortfall`.
    refuse_below : probability below which the deck probably has no answer.
    """

    features: list[str]
    means: list[float]
    scales: list[float]
    weights: list[float]
    intercept: float
    usual_similarity: float
    refuse_below: float

    @classmethod
    def load(cls, folder: Path) -> "Answerability":
        """Read the model that the stage rerank_eval wrote into ``folder``.

        Raises
        ------
        InputError : the file is missing or damaged.
        """
        try:
            return cls.model_validate(read_json(folder / MODEL_FILE))
        except ValidationError:
            raise InputError(f"{folder / MODEL_FILE} is damaged: run `dvc repro -f rerank_eval`") from None

    def save(self, folder: Path) -> None:
        """Write the model with all digits, so that a question is refused by the same probability everywhere."""
        with atomic(folder / MODEL_FILE) as file:
            file.write_text(f"{self.model_dump_json(indent=2)}\n", encoding="utf-8")

    @model_validator(mode="after")
    def _whole(self) -> "Answerability":
        lengths = {len(self.means), len(self.scales), len(self.weights)}
        if lengths != {len(self.features)} or not set(self.features) <= set(FEATURES):
            raise ValueError("the numbers do not belong to the features")
        return self

    def probabilities(self, evidence: pd.DataFrame) -> np.ndarray:
        """The probability that the deck has an answer, by question.

        Parameters
        ----------
        evidence : one row per question, see :func:`evidence`.
        """
        values = with_shortfall(evidence, self.usual_similarity)[self.features].to_numpy()
        standardised = (values - self.means) / self.scales
        return 1 / (1 + np.exp(-(standardised @ self.weights + self.intercept)))

    def refuses(self, probability: float) -> bool:
        """Whether the deck probably has no answer."""
        return probability < self.refuse_below


def evidence(
    retriever: Retriever,
    questions: list[str],
    found: dict[str, Ranking],
    served: Served,
    hidden: list[set[int]] | None = None,
) -> pd.DataFrame:
    """What a search tells about whether the deck has an answer, one row per question.

    It is read before the cross-encoder, whose scores add nothing to it (docs/LOG.md).

    ``similarity``      cosine similarity of the nearest answer
    ``margin``          its distance to the next answer, and as ``margin_10`` and ``margin_50`` to the mean of the
                        next 9 and 49 answers
    ``coverage``        share of the question's words that the first answer holds, by inverse document frequency
    ``best_coverage``   the largest such share among the candidates
    ``known_words``     share of the question's words that any answer of the deck holds, weighted alike
    ``agreement``       number of answers that are among the first ten of BM25 and of the bi-encoder

    Parameters
    ----------
    found : rankings of :meth:`medcards.search.systems.Retriever.rank` for the questions.
    hidden : row numbers of the answers that the deck lacks, by question; the rankings are without them.
    """
    candidates = found["hybrid"][0][:, : served.candidates]
    cosine = found["hnsw"][1]
    coverage, known = retriever.bm25.coverage(questions, candidates, hidden)
    near, words = found["hnsw"][0][:, :AGREEMENT_DEPTH], found["bm25"][0][:, :AGREEMENT_DEPTH]
    table = {
        "similarity": np.nan_to_num(cosine[:, 0]),
        "margin": _margin(cosine, 2),
        "margin_10": _margin(cosine, 10),
        "margin_50": _margin(cosine, 50),
        "coverage": coverage[:, 0],
        "best_coverage": coverage.max(axis=1),
        "known_words": known,
        "agreement": [len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(near, words, strict=True)],
    }
    return pd.DataFrame(table, dtype=float)


def with_shortfall(evidence: pd.DataFrame, usual: float) -> pd.DataFrame:
    """The evidence with ``shortfall``: how far the similarity is below the one that most answerable questions reach.

    It tells a question off the deck's topics from one whose card is missing among similar cards, so that the weight of
    the similarity itself can be that of the second kind.
    """
    return evidence.assign(shortfall=np.maximum(usual - evidence.similarity, 0))


def _margin(cosine: np.ndarray, depth: int) -> np.ndarray:
    """The first value of each row minus the mean of the next ones, down to ``depth``; 0 where there are none."""
    following = cosine[:, 1:depth]
    there = ~np.isnan(following)
    means = np.where(there, following, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return np.where(there.any(axis=1), np.nan_to_num(cosine[:, 0]) - means, 0)


def about_deck(
    queries: QuerySet, deck: str, rankings: dict[str, Ranking], served: Served, evident: pd.DataFrame, ids: np.ndarray
) -> pd.DataFrame:
    """The evidence of a query set, with what it is about.

    Parameters
    ----------
    deck : one of :data:`ASKED_DECKS`.
    rankings : of the questions in this deck.
    evident : see :func:`evidence`.
    ids : card ids of the corpus.

    Returns
    -------
    ``split``, ``query_set``, ``query``, ``group``, ``deck``, ``answerable``, ``correct`` (whether the first answer is
    relevant) and the evidence, one row per question.
    """
    first = rankings[served.system if deck == WHOLE_DECK else "hybrid"][0][:, 0].tolist()
    about = {
        "split": queries.split,
        "query_set": queries.name,
        "query": queries.cards.card_id.to_numpy(),
        "group": queries.cards.group.to_numpy(),
        "deck": deck,
        "answerable": deck == WHOLE_DECK,
        "correct": [row in rows for row, rows in zip(first, queries.relevant_rows(ids), strict=True)],
    }
    return evident.assign(**about)[[*about, *evident.columns]]


def fit_answerability(asked: pd.DataFrame, false_refusals: float) -> Answerability:
    """Fit the model, and choose the threshold below which a question is refused.

    The threshold is the largest that refuses at most the share ``false_refusals`` of the questions with an answer, but
    not more than :data:`EVEN` (library: scikit-learn's LogisticRegression).

    Parameters
    ----------
    asked : tables of :func:`about_deck`.
    """
    from sklearn.linear_model import LogisticRegression

    answerable = asked.answerable.to_numpy()
    usual = float(asked.similarity[answerable].quantile(UNUSUAL))
    evidence = with_shortfall(asked[[name for name in FEATURES if name in asked]], usual)
    values = evidence.to_numpy()
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales = np.where(scales > SMALLEST_SCALE, scales, 1)
    fitted = LogisticRegression(C=REGULARISATION, max_iter=1000).fit((values - means) / scales, answerable)
    model = Answerability(
        features=list(evidence),
        means=means.tolist(),
        scales=scales.tolist(),
        weights=fitted.coef_[0].tolist(),
        intercept=float(fitted.intercept_[0]),
        usual_similarity=usual,
        refuse_below=0.0,
    )
    rising = np.sort(model.probabilities(asked[answerable]))
    threshold = rising[int(false_refusals * len(rising) + ROUNDING)]
    return model.model_copy(update={"refuse_below": min(float(threshold), EVEN)})


def with_probabilities(asked: pd.DataFrame, false_refusals: float) -> tuple[pd.DataFrame, Answerability]:
    """Fit the model on the validation questions, and add the column ``probability`` to all questions.

    Perturbed questions choose nothing, as everywhere. The probabilities of validation questions are held out: each part
    of their groups has those of a model that is fitted on the other parts. Where all are of one group, there are no
    other parts, and none is held out.

    Parameters
    ----------
    asked : tables of :func:`about_deck`, of all query sets.
    false_refusals : share of the answerable validation questions that may be refused.
    """
    validation = asked[asked.split == "validation"]
    part = pd.Series(pd.factorize(validation.group)[0] % PARTS, index=validation.index)
    chosen = ~validation.query_set.isin(list(PERTURBATIONS))
    model = fit_answerability(validation[chosen], false_refusals)
    probability = pd.Series(model.probabilities(asked), index=asked.index)
    for number in part.unique() if part.nunique() > 1 else ():
        held_out = validation[part == number]
        of_others = fit_answerability(validation[chosen & (part != number)], false_refusals)
        probability[held_out.index] = of_others.probabilities(held_out)
    return asked.assign(probability=probability), model
