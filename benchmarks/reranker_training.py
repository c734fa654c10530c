"""Training of the cross-encoder: CrossEncoderTrainer with its defaults against the stage rerank_train.

    python -m benchmarks.run reranker_training

Both ways train the same model on the same lists, with the same batch size, learning rate and frozen layers. Quality is
the mean loss of the last tenth of the steps, and the difference in nDCG@10 on validation questions whose candidates are
the nearest answers by the bi-encoder.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.flops import training_flops
from benchmarks.material import DATA, Deck, blocks, ndcg, paired
from benchmarks.measure import Benchmark, Way
from medcards.base.manifests import model_folder
from medcards.search.cross_encoder_training import RerankerParams, train_reranker, training_lists
from medcards.search.encoder import load_encoder
from medcards.search.encoder_training import encoder_trainer_settings, freeze, training_losses
from medcards.search.exact import exact_search

CARDS = 160
CANDIDATES = 10


def benchmarks(cards: int) -> Iterator[Benchmark]:
    from sentence_transformers import SentenceTransformer

    seed, params = blocks(reranker=RerankerParams)
    params = params.model_copy(update={"questions": cards, "epochs": 1.0})
    deck, folder = Deck(seed), model_folder(DATA / "encoder")
    lists = training_lists(deck.cards, deck.vectors, params, seed)
    asked, texts = deck.questions(cards, "validation"), deck.corpus.answer.to_numpy()
    candidates = exact_search(deck.vectors.questions_of(asked.card_id), deck.vectors.answers, CANDIDATES)[0]

    def plain(encoder) -> tuple:
        return train(encoder, lists, params, seed)

    def ours(encoder) -> tuple:
        with tempfile.TemporaryDirectory() as scratch:
            return train_reranker(encoder, lists, params, seed, Path(scratch))

    def scores(model) -> np.ndarray:
        pairs = [
            (question, texts[row]) for question, rows in zip(asked.question, candidates, strict=True) for row in rows
        ]
        order = np.argsort(-np.asarray(model.predict(pairs)).reshape(candidates.shape), axis=1, kind="stable")
        return ndcg(asked, deck.corpus, np.take_along_axis(candidates, order, axis=1))

    def quality(one: tuple, other: tuple) -> dict[str, str]:
        losses = [np.mean(found[-max(1, len(found) // 10) :]) for _, found in (one, other)]
        difference = paired(asked, scores(one[0]), scores(other[0]), seed)
        return {"loss": f"{losses[0]:.3f} plain, {losses[1]:.3f} this way", "nDCG@10": difference}

    model = SentenceTransformer(str(folder))
    pairs = [
        (question, text) for question, found in zip(lists["question"], lists["answers"], strict=True) for text in found
    ]
    read = model.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=params.max_tokens)
    lengths = [len(ids) for ids in read["input_ids"]]
    ways = {
        "sentence-transformers' defaults": Way(plain, lambda: SentenceTransformer(str(folder))),
        "ours": Way(ours, lambda: load_encoder(folder), ours=True),
    }
    flops = training_flops(model, lengths, params.frozen_layers)
    yield Benchmark(
        "cross-encoder training", f"{len(pairs):,} pairs", ways, quality, sum(lengths), "tokens", lambda _: flops
    )


def train(encoder, lists: dict[str, list], params: RerankerParams, seed: int) -> tuple[object, list[float]]:
    """A cross-encoder from the transformer of the bi-encoder, and the loss of every step."""
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling
    from transformers import set_seed

    freeze(encoder, params.frozen_layers)
    set_seed(seed)
    width = encoder[0].get_embedding_dimension()
    score = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    model = CrossEncoder(modules=[encoder[0], Pooling(width, pooling_mode="mean"), score], num_labels=1)
    whole, model.max_length = encoder.max_seq_length, params.max_tokens
    with tempfile.TemporaryDirectory() as scratch:
        trainer = CrossEncoderTrainer(
            model=model,
            args=CrossEncoderTrainingArguments(**encoder_trainer_settings(params, seed, Path(scratch))),
            train_dataset=Dataset.from_dict(lists),
            loss=ListNetLoss(model),
        )
        trainer.train()
    model.max_length = whole
    return model, training_losses(trainer.state.log_history)
