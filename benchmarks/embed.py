"""Text to vectors: SentenceTransformer.encode with its defaults against the stage embed.

    python -m benchmarks.run embed

The input is a sample of answers, and the own test questions among its cards. Quality is the smallest cosine similarity
of a text's two vectors, and the difference in nDCG@10 of exact search among these answers.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.flops import forward_flops
from benchmarks.material import DATA, Deck, blocks, ndcg, paired
from benchmarks.measure import Benchmark, Way
from medcards.base.manifests import pinned_model
from medcards.base.references import resolve
from medcards.search.encoder import EmbedParams, encode_answers, encode_questions, load_encoder, token_counts
from medcards.search.exact import exact_search

CARDS = 3000


def benchmarks(cards: int) -> Iterator[Benchmark]:
    from sentence_transformers import SentenceTransformer

    seed, params = blocks(embed=EmbedParams)
    deck, folder = Deck(seed), resolve(pinned_model(DATA, "encoder"))
    asked = deck.questions(cards // 3)
    others = deck.corpus[deck.corpus.split == "train"]
    others = others.sample(min(cards - len(asked), len(others)), random_state=seed)
    answers = pd.concat([asked, others], ignore_index=True)
    texts = [*answers.answer, *asked.question]
    plain, ours = SentenceTransformer(str(folder)), load_encoder(folder)
    lengths = np.minimum(token_counts(plain, texts), plain.max_seq_length)

    def encoded(_: None) -> np.ndarray:
        of_answers = encode_answers(ours, answers.answer.tolist(), params.batch_tokens)
        return np.concatenate([of_answers, encode_questions(ours, asked.question.tolist(), params.batch_tokens)])

    def scores(vectors: np.ndarray) -> np.ndarray:
        of_answers, of_questions = np.split(vectors, [len(answers)])
        return ndcg(asked, answers, exact_search(of_questions, of_answers, 10)[0])

    def quality(one: np.ndarray, other: np.ndarray) -> dict[str, str]:
        cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        difference = paired(asked, scores(one), scores(other), seed)
        return {"smallest cosine": f"{cosine.min():.6f}", "nDCG@10": difference}

    yield Benchmark(
        "embed",
        f"{len(texts):,} texts",
        {
            "sentence-transformers' defaults": Way(lambda _: plain.encode(texts)),
            "ours": Way(encoded, ours=True),
        },
        quality,
        *(lengths.sum(), "tokens", lambda _: forward_flops(plain, lengths)),
    )
