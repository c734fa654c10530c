"""Adaptation of the bi-encoder: SentenceTransformerTrainer with its defaults against the stage adapt.

    python -m benchmarks.run adaptation

The plain way and "ours, fine-tuning" mine the same negatives and train on the same questions, with the same batch size,
learning rate and frozen layers. "ours, linear layer" is the projection of params.yaml, which trains on all training
questions and needs their vectors only. Quality is the mean loss of the last tenth of the steps, which compares for the
first two, and the difference in nDCG@10 on validation questions.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.flops import training_flops
from benchmarks.material import DATA, Deck, blocks, ndcg, paired
from benchmarks.measure import Benchmark, Way
from medcards.base.manifests import pinned_model
from medcards.base.references import resolve
from medcards.search.adaptation import AdaptParams, adapt, fine_tune
from medcards.search.encoder import encode_answers, encode_questions, load_encoder, token_counts
from medcards.search.encoder_training import encoder_trainer_settings, freeze, training_losses
from medcards.search.exact import exact_search
from medcards.search.negatives import hard_negatives, training_pairs
from medcards.search.vectors import Vectors

CARDS = 640


def benchmarks(cards: int) -> Iterator[Benchmark]:
    from sentence_transformers import SentenceTransformer

    seed, params = blocks(adapt=AdaptParams)
    tuning = params.model_copy(update={"questions": cards, "epochs": 1.0})
    linear = params.model_copy(update={"questions": 0, "projection_epochs": params.projection_epochs or 1})
    deck, folder = Deck(seed), resolve(pinned_model(DATA, "encoder"))
    vectors = deck.unadapted
    asked, answers = deck.questions(cards // 2, "validation"), deck.corpus[deck.corpus.split == "validation"]

    def plain(model) -> tuple:
        return model, train(model, training_columns(deck, vectors, tuning, seed), tuning, seed)

    def fine_tuned(model) -> tuple:
        with tempfile.TemporaryDirectory() as scratch:
            return model, fine_tune(model, deck.cards, vectors, tuning, seed, Path(scratch))["last_loss"]

    def projected(model) -> tuple:
        _, facts = adapt(model, deck.cards, vectors, linear, seed, Path())
        return model, facts["projection"]["last_loss"]

    def scores(model) -> np.ndarray:
        of_answers, of_questions = (
            encode_answers(model, answers.answer.tolist()),
            encode_questions(model, asked.question.tolist()),
        )
        return ndcg(asked, answers, exact_search(of_questions, of_answers, 10)[0])

    def quality(one: tuple, other: tuple) -> dict[str, str]:
        difference = paired(asked, scores(one[0]), scores(other[0]), seed)
        return {"loss": f"{one[1]:.3f} plain, {other[1]:.3f} this way", "nDCG@10": difference}

    model = SentenceTransformer(str(folder))
    texts = [text for column in training_columns(deck, vectors, tuning, seed).values() for text in column]
    lengths = np.minimum(token_counts(model, texts), params.max_tokens)
    ways = {
        "sentence-transformers' defaults": Way(plain, lambda: SentenceTransformer(str(folder))),
        "ours, fine-tuning": Way(fine_tuned, lambda: load_encoder(folder), ours=True),
        "ours, linear layer": Way(projected, lambda: load_encoder(folder), ours=True),
    }
    flops = training_flops(model, lengths, params.frozen_layers)
    yield Benchmark("adaptation", f"{cards} questions", ways, quality, lengths.sum(), "tokens", lambda _: flops)


def training_columns(deck: Deck, vectors: Vectors, params: AdaptParams, seed: int) -> dict[str, list[str]]:
    """Questions, right answers and mined wrong answers."""
    pairs = training_pairs(deck.cards, deck.corpus, params.questions, seed)
    wrong = hard_negatives(pairs, deck.corpus, vectors, params.negatives, seed)
    texts = deck.corpus.answer.to_numpy()
    columns = {"question": pairs.question.tolist(), "answer": texts[pairs.row].tolist()}
    return columns | {f"negative_{number}": texts[rows].tolist() for number, rows in enumerate(wrong.T, start=1)}


def train(model, columns: dict[str, list[str]], params: AdaptParams, seed: int) -> float:
    """Train a sentence-transformers model in place. Returns the mean loss of the last tenth of the steps."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    freeze(model, params.frozen_layers)
    whole, model.max_seq_length = model.max_seq_length, params.max_tokens
    with tempfile.TemporaryDirectory() as scratch:
        settings = encoder_trainer_settings(params, seed, Path(scratch))
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**settings),
            train_dataset=Dataset.from_dict(columns),
            loss=MultipleNegativesRankingLoss(model),
        )
        trainer.train()
    model.max_seq_length = whole
    losses = training_losses(trainer.state.log_history)
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))
