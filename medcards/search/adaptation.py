"""Adaptation of the bi-encoder to the deck, on training questions and their answers."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator

from medcards.base.checkpoints import marking
from medcards.base.workers import ComputeParams, SentFolder, Workers
from medcards.deck.cards import corpus, in_shards
from medcards.search.encoder import answer_prompt, embed_cards, load_encoder, question_prompt, save_encoder
from medcards.search.encoder_training import (
    EncoderTrainingParams,
    encoder_trainer_settings,
    freeze,
    train,
    without_dropout,
)
from medcards.search.negatives import hard_negatives, training_pairs
from medcards.search.projection import add_projection, project, train_projection
from medcards.search.vectors import Vectors


class AdaptParams(EncoderTrainingParams):
    """The block ``adapt`` of params.yaml."""

    questions: NonNegativeInt
    projection_epochs: NonNegativeInt
    enabled: bool  # checked after the other two
    batch_size: int = Field(ge=2)  # the other answers of the batch are wrong answers

    @field_validator("enabled")
    @classmethod
    def _something_is_trained(cls, enabled: bool, given: ValidationInfo) -> bool:
        if enabled and not (given.data.get("projection_epochs") or given.data.get("questions")):
            raise ValueError("nothing is trained; raise adapt.projection_epochs or adapt.questions, or write false")
        return enabled


def adapt(
    model,
    cards: pd.DataFrame,
    vectors: Vectors,
    params: AdaptParams,
    seed: int,
    scratch: Path,
    compute: ComputeParams | None = None,
) -> tuple[Iterable[Vectors], dict]:
    """Adapt a sentence-transformers model in place, on training cards only.

    If ``params.questions`` is not 0, the transformer is fine-tuned on this number of questions. If
    ``params.projection_epochs`` is not 0, a linear layer after it is trained on all training questions.

    Parameters
    ----------
    model : the unadapted bi-encoder.
    cards : all cards of the deck.
    vectors : the model's vectors of the cards.
    scratch : folder of the checkpoints, and of the fine-tuned model for the workers. The caller gives another one for
        other settings or cards.
    compute : the cluster that encodes the cards with the fine-tuned model. The training stays in this process.

    Returns
    -------
    vectors : the adapted model's vectors of the cards, shard by shard.
    facts : ``fine_tuning`` and ``projection``, each with ``questions``, ``steps``, and the mean loss of the first and
        the last tenth of the steps, in nats per question: ``first_loss`` and ``last_loss``.
    """
    answers, facts = corpus(cards), {}
    if params.questions:
        facts["fine_tuning"] = fine_tune(model, cards, vectors, params, seed, scratch)
        workers = Workers.on(compute, load_encoder, SentFolder(scratch / "fine_tuned"))
        if workers:
            save_encoder(model, scratch / "fine_tuned")
        vectors = Vectors.of([embed_cards(model, shard, workers=workers) for shard in in_shards(cards)])
    if params.projection_epochs:
        pairs = training_pairs(cards, answers, len(cards), seed)
        matrix, losses = train_projection(pairs, answers, vectors, params.projection_epochs, seed)
        add_projection(model, matrix)
        facts["projection"] = _training_facts(pairs, losses)
        return (project(shard, matrix) for shard in vectors.shards()), facts
    return vectors.shards(), facts


def fine_tune(
    model, cards: pd.DataFrame, vectors: Vectors, params: AdaptParams, seed: int, scratch: Path
) -> dict[str, float]:
    """Fine-tune the transformer of a sentence-transformers model.

    The model learns to prefer a question's right answer to its mined negatives and to the other answers of the batch
    (MultipleNegativesRankingLoss, after Henderson et al., Efficient Natural Language Response Suggestion for Smart
    Reply, 2017). It reads questions and answers after their prompts. See :func:`adapt` for parameters and for what is
    returned.
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

    prompts = {name: question_prompt(model) if name == "question" else answer_prompt(model) for name in columns}
    freeze(model, params.frozen_layers)
    without_dropout(model)
    limit, model.max_seq_length = model.max_seq_length, min(params.max_tokens, model.max_seq_length)
    settings = encoder_trainer_settings(params, seed, scratch)
    trainer = marking(SentenceTransformerTrainer)(
        model=model,
        args=SentenceTransformerTrainingArguments(batch_sampler="no_duplicates", prompts=prompts, **settings),
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
    )
    losses = train(trainer, model[0])
    model.max_seq_length = limit
    return _training_facts(pairs, losses)


def _training_facts(pairs: pd.DataFrame, losses: list[float]) -> dict[str, float]:
    tenth = max(1, len(losses) // 10)
    return {
        "questions": len(pairs),
        "steps": len(losses),
        "first_loss": float(np.mean(losses[:tenth])),
        "last_loss": float(np.mean(losses[-tenth:])),
    }
