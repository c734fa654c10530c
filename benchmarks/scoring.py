"""Question and answer to score: CrossEncoder.predict with its defaults against the scorer of the search.

    python -m benchmarks.run scoring

The input is one pair per question and candidate; the candidates are the nearest answers by the bi-encoder. Quality is
the difference in nDCG@10 of the candidates in the order of the scores, and the share of questions with the same first
answer.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.flops import forward_flops
from benchmarks.material import DATA, Deck, blocks, ndcg, paired
from benchmarks.measure import Benchmark, Way
from medcards.base.manifests import model_folder
from medcards.search.cross_encoder import load_scorer
from medcards.search.evaluation import RerankEvalParams
from medcards.search.exact import exact_search

CARDS = 100


def benchmarks(cards: int) -> Iterator[Benchmark]:
    from sentence_transformers import CrossEncoder

    seed, params = blocks(rerank_eval=RerankEvalParams)
    deck = Deck(seed)
    asked, answers = deck.questions(cards), deck.corpus.answer.to_numpy()
    candidates = exact_search(deck.vectors.questions_of(asked.card_id), deck.vectors.answers, params.candidates)[0]
    pairs = [
        (question, answer)
        for question, rows in zip(asked.question, candidates, strict=True)
        for answer in answers[rows]
    ]
    plain, ours = (
        CrossEncoder(str(model_folder(DATA / "reranker"))),
        load_scorer(DATA / "reranker", params.batch_tokens),
    )
    read = plain.tokenizer(
        [one for one, _ in pairs], [other for _, other in pairs], truncation=True, max_length=plain.max_length
    )
    lengths = [len(ids) for ids in read["input_ids"]]

    def ranked(scores: np.ndarray) -> np.ndarray:
        order = np.argsort(-scores.reshape(candidates.shape), axis=1, kind="stable")
        return np.take_along_axis(candidates, order, axis=1)

    def quality(one: np.ndarray, other: np.ndarray) -> dict[str, str]:
        rows = [ranked(np.asarray(scores)) for scores in (one, other)]
        difference = paired(asked, *(ndcg(asked, deck.corpus, found) for found in rows), seed)
        return {"nDCG@10": difference, "same first answer": f"{(rows[0][:, 0] == rows[1][:, 0]).mean():.1%}"}

    yield Benchmark(
        "cross-encoder scoring",
        f"{len(pairs):,} pairs",
        {
            "CrossEncoder.predict's defaults": Way(lambda _: plain.predict(pairs)),
            "ours": Way(lambda _: ours(pairs), ours=True),
        },
        quality,
        *(sum(lengths), "tokens", lambda _: forward_flops(plain, lengths)),
    )
