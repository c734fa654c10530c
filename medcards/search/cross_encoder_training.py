"""Training of the cross-encoder from the bi-encoder, on training questions with mined wrong answers."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import AfterValidator

from medcards.base.checkpoints import marking
from medcards.base.references import checked_reference
from medcards.deck.cards import corpus
from medcards.search.encoder_training import (
    EncoderTrainingParams,
    encoder_trainer_settings,
    freeze,
    train,
    without_dropout,
)
from medcards.search.negatives import hard_negatives, training_pairs
from medcards.search.vectors import Vectors

RIGHT_LABEL = 100.0
"""Label of the right answer; that of a wrong one is 0. The softmax of the labels, which is ListNet's target, is then 1
for the right answer."""
SMOOTHED_STEPS = 10
"""Number of optimizer steps that the smoothed loss is a mean of."""


class RerankerParams(EncoderTrainingParams):
    """The block ``reranker`` of params.yaml."""

    model: Annotated[str, AfterValidator(lambda text: text if text in ("none", "train") else checked_reference(text))]


def training_lists(cards: pd.DataFrame, vectors: Vectors, params: RerankerParams, seed: int) -> dict[str, list]:
    """Training questions, each with its right answer and mined wrong answers, in the format of ListNetLoss.

    Only the deck's own questions are used, because only those are re-ranked.

    Returns
    -------
    ``{"question": [...], "answers": [[right, wrong, ...], ...], "labels": [[...], ...]}``
    """
    answers = corpus(cards)
    pairs = training_pairs(answers, answers, params.questions, seed)
    negatives = hard_negatives(pairs, answers, vectors, params.negatives, seed)
    texts = answers.answer.to_numpy()
    lists = [[texts[row], *texts[wrong]] for row, wrong in zip(pairs.row, negatives, strict=True)]
    labels = [[RIGHT_LABEL] + [0.0] * params.negatives] * len(pairs)
    return {"question": pairs.question.tolist(), "answers": lists, "labels": labels}


def train_reranker(encoder, lists: dict[str, list], params: RerankerParams, seed: int, scratch: Path):
    """Train a cross-encoder from the transformer of the bi-encoder.

    The transformer reads question and answer together. The mean of its token vectors goes through one linear layer.
    A softmax over each question's list separates the right answer from the wrong ones (ListNet with one right answer:
    Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007).

    Parameters
    ----------
    encoder : the sentence-transformers model; its transformer is trained in place.
    lists : see :func:`training_lists`.
    scratch : folder of the checkpoints. The caller gives another one for other settings or lists.

    Returns
    -------
    model : the cross-encoder.
    losses : the training loss of every optimizer step, in nats per question.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling
    from transformers import set_seed

    freeze(encoder, params.frozen_layers)
    without_dropout(encoder)
    set_seed(seed)  # the linear layer starts with random weights
    width = encoder[0].get_embedding_dimension()
    score = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    model = CrossEncoder(modules=[encoder[0], Pooling(width, pooling_mode="mean"), score], num_labels=1)
    whole, model.max_length = encoder.max_seq_length, min(params.max_tokens, encoder.max_seq_length)
    trainer = marking(CrossEncoderTrainer)(
        model=model,
        args=CrossEncoderTrainingArguments(**encoder_trainer_settings(params, seed, scratch)),
        train_dataset=Dataset.from_dict(lists),
        loss=ListNetLoss(model, mini_batch_size=-1),
    )
    losses = train(trainer, encoder[0])
    model.max_length = whole  # texts are cut at max_tokens in training only
    return model, pd.Series(losses, dtype=float)


def loss_curve(losses: pd.Series) -> pd.DataFrame:
    """The loss of every optimizer step, as it is and smoothed: ``step`` from 1, ``loss``, ``smoothed``.

    Parameters
    ----------
    losses : see :func:`train_reranker`; may be empty.
    """
    smoothed = losses.rolling(SMOOTHED_STEPS, min_periods=1).mean()
    return pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses, "smoothed": smoothed})
