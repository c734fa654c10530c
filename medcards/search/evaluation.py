"""How rankings are scored, and how what is served is chosen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from medcards.base.params import Block
from medcards.base.stats import Bootstrap
from medcards.deck.cards import relevant_answers, sample
from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.systems import DEPTH, SERVED, SYSTEMS, Ranking, Retriever, Served, hybrid, rerank

# Names as the field says them; computed with trec_eval's semantics by ir_measures.
MEASURES = ("mrr@10", "ndcg@10", "recall@1", "recall@5", "recall@10", "recall@50")
# With the bi-encoder as it came, and what that is where it was not adapted.
BASELINES = {"bm25": "bm25", "dense_before": "dense_exact", "hybrid_before": "hybrid"}
DEPTHS = (1, 2, 3, 5, 10, 20, 30, 50)
FOLDS = 10
# Of BM25 in hybrid. The bi-encoder always takes part, so that a question of other words finds something as well.
WEIGHTS = [step / 10 for step in range(10)]


class RerankEvalParams(Block):
    """How many questions are ranked, and how deep the re-ranker looks, see params.yaml."""

    test_queries: PositiveInt
    validation_queries: PositiveInt
    candidates: int = Field(ge=2, le=DEPTH)
    batch_size: PositiveInt


@dataclass
class QuerySet:
    """Questions of one kind: the cards that ask them, the texts that are asked, and the ids of the right answers."""

    split: str
    name: str
    cards: pd.DataFrame
    questions: list[str]
    relevant: list[set[str]]

    @property
    def perturbed(self) -> bool:
        """Whether the texts are other than the cards'."""
        return self.name in PERTURBATIONS


def query_sets(cards: pd.DataFrame, answers: pd.DataFrame, split: str, count: int, seed: int) -> list[QuerySet]:
    """Samples of a split's questions: the deck's own first, then other sets of the source, then perturbed own ones.

    Parameters
    ----------
    answers : the corpus, see :func:`medcards.deck.cards.corpus`.
    count : questions of each set, at most.
    """
    sets = []
    for name in sorted(set(cards.query_set[cards.split == split]), key=lambda name: (name != "own", name)):
        asking = sample(cards, split, count, seed, name)
        sets.append(QuerySet(split, name, asking, asking.question.tolist(), relevant_answers(asking, answers)))
    own = sets[0]
    for name in PERTURBATIONS:
        questions = [perturb(name, question, seed) for question in own.questions]
        sets.append(QuerySet(split, name, own.cards, questions, own.relevant))
    return sets


def score_ranking(
    rows: np.ndarray, relevant: list[set[str]], answer_ids: np.ndarray, measures: Iterable[str] = MEASURES
) -> pd.DataFrame:
    """Score each question's ranking with trec_eval's semantics.

    Parameters
    ----------
    rows : shape (questions, depth), row numbers of the corpus, best first; -1 is skipped.
    relevant : the ids of each question's right answers, see :func:`medcards.deck.cards.relevant_answers`.
    answer_ids : the corpus's card ids.
    measures : ``mrr@k``, ``ndcg@k`` or ``recall@k``.

    Returns
    -------
    table with one row a question and one column a measure.

    Examples
    --------
    >>> score_ranking(np.array([[1, 0]]), [{"a"}], np.array(["a", "b"]))["mrr@10"].tolist()
    [0.5]
    """
    import ir_measures

    kinds = {"mrr": ir_measures.RR, "ndcg": ir_measures.nDCG, "recall": ir_measures.R}
    names = {kinds[kind] @ int(depth): f"{kind}@{depth}" for kind, depth in (name.split("@") for name in measures)}
    # trec_eval sorts by score and breaks ties by id; scores made from the ranks keep the ranker's own order.
    run = {
        str(place): {str(answer_ids[row]): float(len(found) - rank) for rank, row in enumerate(found) if row >= 0}
        for place, found in enumerate(rows.tolist())
    }
    qrels = {str(place): dict.fromkeys(ids, 1) for place, ids in enumerate(relevant)}
    scores = {name: np.zeros(len(rows)) for name in names.values()}
    for result in ir_measures.iter_calc(list(names), qrels, run):
        scores[names[result.measure]][int(result.query_id)] = result.value
    return pd.DataFrame(scores)


def score_systems(found: dict[str, Ranking], relevant: list, answer_ids: np.ndarray, candidates: int) -> dict:
    """Every measure of every system, a row a question; of a re-ranked one the recall of its candidates as well."""
    scores = {system: score_ranking(rows, relevant, answer_ids) for system, (rows, _) in found.items()}
    for system in scores.keys() & {"hnsw_rerank", "hybrid_rerank"}:
        first, depth = found[system.removesuffix("_rerank")][0], f"recall@{candidates}"
        scores[system]["candidate_recall"] = score_ranking(first, relevant, answer_ids, [depth])[depth]
    return scores


def claimed_pairs(scores: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """The pairs of systems whose difference is reported.

    All against dense_exact, re-ranking against its first stage, and what may be served against the best baseline: BM25,
    the bi-encoder as it came, and their fusion. Which baseline is the best is told on the same questions, against us.
    """
    pairs = [(system, "dense_exact") for system in scores if system != "dense_exact"]
    pairs += [(f"{first}_rerank", first) for first in ("hnsw", "hybrid") if f"{first}_rerank" in scores]
    baselines = [before if before in scores else now for before, now in BASELINES.items()]
    strongest = max(baselines, key=lambda name: scores[name]["mrr@10"].mean())
    pairs += [(system, strongest) for system in SERVED if system in scores and system != strongest]
    return list(dict.fromkeys(pairs))


def summarise(scores: dict[str, pd.DataFrame], bootstrap: Bootstrap, pairs: Iterable[tuple[str, str]]) -> dict:
    """Mean and interval of every measure of every system, and the paired differences of the pairs named.

    Returns ``{system: {measure: interval}, "differences": {"a-b": {measure: interval}}}``.
    """
    summary = {system: {name: bootstrap.interval(table[name]) for name in table} for system, table in scores.items()}
    summary["differences"] = {
        f"{a}-{b}": {
            name: bootstrap.interval(scores[a][name] - scores[b][name]) for name in scores[a] if name in scores[b]
        }
        for a, b in pairs
    }
    return summary


def recall_curves(found: dict[str, Ranking], relevant: list, answer_ids: np.ndarray) -> pd.DataFrame:
    """Mean recall at every depth of :data:`DEPTHS`: a column a system, empty for one of SYSTEMS that was not run."""
    measures = [f"recall@{depth}" for depth in DEPTHS]
    means = {name: score_ranking(rows, relevant, answer_ids, measures).mean() for name, (rows, _) in found.items()}
    curves = pd.DataFrame(means, index=measures).reindex(columns=list(dict.fromkeys([*SYSTEMS, *found])))
    return curves.set_axis(pd.Index(DEPTHS, name="k")).reset_index()


def best_bm25_weight(dense: Ranking, words: Ranking, mrr: Callable[[Ranking], pd.Series]) -> float:
    """BM25's weight in the fusion with the highest mean MRR@10, the smallest of equals."""
    return WEIGHTS[_best([mrr(hybrid(dense, words, weight)) for weight in WEIGHTS])]


def choose_served(
    retriever: Retriever,
    questions: list[str],
    vectors: np.ndarray,
    groups: pd.Series,
    mrr: Callable[[Ranking], pd.Series],
    candidates: int,
    seed: int,
) -> tuple[Served, dict | None]:
    """The weights with the highest MRR@10 on the validation questions, and the system that is served.

    The re-ranked system is served if it beats hybrid by an interval that excludes zero. Weights that were chosen on a
    question flatter its gain, so for this decision each tenth of the groups is ranked with the weights that the others
    chose.

    Parameters
    ----------
    questions, vectors, groups : the validation questions, their unit vectors and their groups.
    mrr : from a ranking of them to the MRR@10 of each.

    Returns
    -------
    served : the system and the weights.
    gain : the interval that decided, of re-ranking's gain in MRR@10 over hybrid; None without a cross-encoder.
    """
    served = Served(system="hybrid", bm25_weight=0.0, rerank_weights=[1.0, 0.0, 0.0], candidates=candidates)
    found = retriever.rank(questions, vectors, served, ["hnsw", "bm25"])
    served = served.model_copy(update={"bm25_weight": best_bm25_weight(found["hnsw"], found["bm25"], mrr)})
    if retriever.scorer is None:
        return served, None
    first = hybrid(found["hnsw"], found["bm25"], served.bm25_weight)
    scores = retriever.scores(questions, vectors, first[0][:, :candidates])
    mixtures = [_mixture(served.bm25_weight, step / 10) for step in range(1, 11)]
    reranked = [mrr(rerank(first, scores, weights)) for weights in mixtures]
    gains = -mrr(first)
    fold = pd.factorize(groups)[0] % FOLDS
    for number in range(fold.max() + 1):
        held_out = fold == number
        gains[held_out] += reranked[_best([one[~held_out] for one in reranked])][held_out]
    gain = Bootstrap(groups, seed).interval(gains)
    system = "hybrid_rerank" if gain["lo"] > 0 else "hybrid"
    return served.model_copy(update={"rerank_weights": mixtures[_best(reranked)], "system": system}), gain


def _mixture(bm25_weight: float, cross_encoder: float) -> list[float]:
    """The cross-encoder's weight, and what is left shared out between bi-encoder and BM25 as hybrid shares it out.

    One weight to choose and not two, because two find more gain on the questions that choose them and less on others.
    """
    left = 1 - cross_encoder
    return [round(left * (1 - bm25_weight), 2), round(left * bm25_weight, 2), cross_encoder]


def _best(choices: list[pd.Series]) -> int:
    """The place of the highest sum, the first of equals."""
    return max(range(len(choices)), key=lambda place: (round(choices[place].sum(), 9), -place))
