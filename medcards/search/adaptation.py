"""Adaptation of the bi-encoder to the deck: contrastive fine-tuning on training questions and their answers."""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from medcards.deck.cards import corpus
from medcards.search.encoder_training import EncoderTrainingParams, encoder_trainer_settings, freeze, training_losses
from medcards.search.negatives import hard_negatives, training_pairs
from medcards.search.vectors import Vectors

ENCODING_BATCH = 64
"""Number of texts that the adapted encoder encodes at a time."""


class AdaptParams(EncoderTrainingParams):
    """The block ``adapt`` of params.yaml."""

    enabled: bool
    batch_size: int = Field(ge=2)  # the other answers of the batch are wrong answers


def adapt(model, cards: pd.DataFrame, vectors: Vectors, params: AdaptParams, seed: int, scratch: Path) -> dict:
    """Fine-tune a sentence-transformers model in place, on training cards only.

    The model learns to prefer a question's right answer to its mined negatives and to the other answers of the batch
    (MultipleNegativesRankingLoss, after Henderson et al., Efficient Natural Language Response Suggestion for Smart
    Reply, 2017).

    Parameters
    ----------
    model : the unadapted bi-encoder.
    cards : all cards of the deck.
    vectors : the model's vectors of the cards. The negatives are mined with them.
    scratch : folder that the trainer may write to.

    Returns
    -------
    ``questions`` and ``steps`` of the training, and the mean loss of its first and last tenth, in nats per question:
    ``first_loss`` and ``last_loss``.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    answers = corpus(cards)
    pairs = training_pairs(cards, answers, params.questions, seed)
    negatives = hard_negatives(pairs, answers, vectors, params.negatives, seed)
    texts = answers.answer.to_numpy()
    columns = {"question": pairs.question.tolist(), "answer": texts[pairs.row].tolist()}
    columns |= {f"negative_{number}": texts[rows].tolist() for number, rows in enumerate(negatives.T, start=1)}

    freeze(model, params.frozen_layers)
    limit, model.max_seq_length = model.max_seq_length, min(params.max_tokens, model.max_seq_length)
    settings = encoder_trainer_settings(params, seed, scratch)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(batch_sampler="no_duplicates", **settings),
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train()
    model.max_seq_length = limit
    losses = training_losses(trainer.state.log_history)
    tenth = max(1, len(losses) // 10)
    return {
        "questions": len(pairs),
        "steps": trainer.state.global_step,
        "first_loss": float(np.mean(losses[:tenth])),
        "last_loss": float(np.mean(losses[-tenth:])),
    }
