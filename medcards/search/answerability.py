"""Whether the deck holds the answer of a question: a probability from what the search finds.

A logistic regression reads the evidence of a search (:func:`evidence`). It is fitted on validation questions that are
asked twice: with their relevant answers in the corpus, and with all of them hidden. So half of the questions have an
answer in the deck, and a probability is that of a question which has one with probability 0.5 before the search.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from medcards import InputError
from medcards.base.files import read_json
from medcards.base.params import Block
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
    "cross_encoder",
)
"""The evidence that the model reads, see :func:`evidence`."""
AGREEMENT_DEPTH = 10
"""Number of first answers of BM25 and of the bi-encoder that are compared."""
PARTS = 10
"""Number of parts of the groups; the probabilities of each are those of a model fitted on the others."""
REGULARISATION = 1.0
"""Inverse strength of the L2 penalty on the weights of standardised evidence: scikit-learn's default."""
EVEN = 0.5
"""Probability from which an answer is more likely than none. A question is never refused above it."""


class Answerability(Block):
    """The fitted model, as the numbers of answerability.json.

    Parameters
    ----------
    features : names of the evidence that the model reads.
    means, scales : mean and standard deviation of each feature, by which it is standardised.
    weights, intercept : of the logistic regression, in log-odds.
    refuse_below : probability below which the deck probably has no answer.
    """

    features: list[str]
    means: list[float]
    scales: list[float]
    weights: list[float]
    intercept: float
    refuse_below: float

    @classmethod
    def load(cls, folder: Path) -> "Answerability":
        """Read the model that the stage rerank_eval wrote into ``folder``.

        Raises
        ------
        InputError : the file is missing or damaged.
        """
        try:
            return cls(**read_json(folder / MODEL_FILE))
        except ValidationError:
            raise InputError(f"{folder / MODEL_FILE} is damaged: run `dvc repro -f rerank_eval`") from None

    def probabilities(self, evidence: pd.DataFrame) -> np.ndarray:
        """The probability that the deck has an answer, by question.

        Parameters
        ----------
        evidence : one row per question, see :func:`evidence`.
        """
        standardised = (evidence[self.features].to_numpy() - self.means) / self.scales
        return 1 / (1 + np.exp(-(standardised @ self.weights + self.intercept)))

    def refuses(self, probability: float) -> bool:
        """Whether the deck probably has no answer."""
        return probability < self.refuse_below


def evidence(retriever: Retriever, questions: list[str], found: dict[str, Ranking], served: Served) -> pd.DataFrame:
    """What a search tells about whether the deck has an answer, one row per question.

    ``similarity``      cosine similarity of the nearest answer
    ``margin``          its distance to the next answer, and as ``margin_10`` and ``margin_50`` to the mean of the
                        next 9 and 49 answers
    ``coverage``        share of the question's words that the first answer holds, by inverse document frequency
    ``best_coverage``   the largest such share among the candidates
    ``known_words``     share of the question's words that any answer of the deck holds, weighted alike
    ``agreement``       number of answers that are among the first ten of BM25 and of the bi-encoder
    ``cross_encoder``   the cross-encoder's score of the first answer, where the cross-encoder is served

    Parameters
    ----------
    found : rankings of :meth:`medcards.search.systems.Retriever.rank` for the questions.
    """
    rows, _ = found[served.system]
    candidates = rows[:, : served.candidates]
    cosine = found["hnsw"][1]
    coverage, known = retriever.bm25.coverage(questions, candidates)
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
    if served.system == "hybrid_rerank":
        scored, scores = found["cross_encoder"]
        table["cross_encoder"] = np.where(scored == rows[:, :1], scores, 0).sum(axis=1)
    return pd.DataFrame(table, dtype=float)


def _margin(cosine: np.ndarray, depth: int) -> np.ndarray:
    """The first value of each row minus the mean of the next ones, down to ``depth``; 0 where there are none."""
    following = cosine[:, 1:depth]
    there = ~np.isnan(following)
    means = np.where(there, following, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return np.where(there.any(axis=1), np.nan_to_num(cosine[:, 0]) - means, 0)


def asked_twice(
    queries: QuerySet,
    vectors: np.ndarray,
    retriever: Retriever,
    served: Served,
    found: dict[str, Ranking],
    answer_ids: np.ndarray,
) -> tuple[pd.DataFrame, dict[str, Ranking]]:
    """The evidence of a query set with the relevant answers in the corpus, and with all of them hidden.

    Parameters
    ----------
    vectors : unit vectors of the questions, shape (questions, dimension).
    found : rankings of :meth:`medcards.search.systems.Retriever.rank` for the questions.
    answer_ids : card ids of the corpus, shape (answers,).

    Returns
    -------
    asked : one row per question and way to ask, with ``split``, ``query_set``, ``query``, ``group``, ``answerable``,
        ``correct`` (whether the first answer is relevant) and the :func:`evidence`.
    hidden : the rankings with the relevant answers hidden.
    """
    relevant = queries.relevant_rows(answer_ids)
    hidden = retriever.rank_without(queries.questions, vectors, served, found, relevant)
    tables = []
    for answerable, rankings in ((True, found), (False, hidden)):
        first = rankings[served.system][0][:, 0]
        about = {
            "split": queries.split,
            "query_set": queries.name,
            "query": queries.cards.card_id.to_numpy(),
            "group": queries.cards.group.to_numpy(),
            "answerable": answerable,
            "correct": [row in rows for row, rows in zip(first.tolist(), relevant, strict=True)],
        }
        table = evidence(retriever, queries.questions, rankings, served)
        tables.append(table.assign(**about)[[*about, *table.columns]])
    return pd.concat(tables, ignore_index=True), hidden


def fit_answerability(evidence: pd.DataFrame, answerable: np.ndarray, false_refusals: float) -> Answerability:
    """Fit the model, and choose the threshold below which a question is refused.

    The threshold is the largest that refuses at most the share ``false_refusals`` of the questions with an answer, but
    not more than :data:`EVEN` (library: scikit-learn's LogisticRegression).

    Parameters
    ----------
    evidence : one row per question, see :func:`evidence`.
    answerable : whether the deck has an answer, shape (questions,).
    """
    from sklearn.linear_model import LogisticRegression

    values = evidence.to_numpy()
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales = np.where(scales > 0, scales, 1)
    fitted = LogisticRegression(C=REGULARISATION, max_iter=1000).fit((values - means) / scales, answerable)
    model = Answerability(
        features=list(evidence),
        means=means.tolist(),
        scales=scales.tolist(),
        weights=fitted.coef_[0].tolist(),
        intercept=float(fitted.intercept_[0]),
        refuse_below=0.0,
    )
    threshold = np.quantile(model.probabilities(evidence[answerable]), false_refusals, method="lower")
    return model.model_copy(update={"refuse_below": min(float(threshold), EVEN)})


def with_probabilities(asked: pd.DataFrame, risk: float) -> tuple[pd.DataFrame, Answerability]:
    """Fit the model on the validation questions, and add the column ``probability`` to all questions.

    The probabilities of validation questions are held out: each part of their groups has those of a model that is
    fitted on the other parts.

    Parameters
    ----------
    asked : the tables of :func:`asked_twice`, of all query sets.
    risk : share of the answerable validation questions that may be refused.
    """
    features = [name for name in FEATURES if name in asked]
    validation = asked.split == "validation"
    fitted_on = asked[validation]
    model = fit_answerability(fitted_on[features], fitted_on.answerable.to_numpy(), risk)
    probability = pd.Series(model.probabilities(asked), index=asked.index)
    part = pd.Series(pd.factorize(fitted_on.group)[0] % PARTS, index=fitted_on.index)
    for number in range(part.max() + 1):
        others, held_out = fitted_on[part != number], fitted_on[part == number]
        of_others = fit_answerability(others[features], others.answerable.to_numpy(), risk)
        probability[held_out.index] = of_others.probabilities(held_out)
    return asked.assign(probability=probability), model
