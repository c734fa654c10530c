"""Adapting the bi-encoder to the deck: contrastive fine-tuning on training questions and their answers."""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from medcards.base.params import Block
from medcards.search.encoder import Embeddings
from medcards.search.negatives import NEIGHBOURS, ends, freeze, hard_negatives, training_pairs


class AdaptParams(Block):
    """How the bi-encoder is adapted, see params.yaml."""

    questions: PositiveInt
    negatives: PositiveInt
    epochs: PositiveFloat
    batch_size: int = Field(ge=2)
    learning_rate: PositiveFloat
    frozen_layers: NonNegativeInt
    max_tokens: int = Field(ge=16)


def adapt(
    model, cards: pd.DataFrame, answers: pd.DataFrame, before: Embeddings, params: AdaptParams, seed: int, scratch: Path
) -> dict:
    """Fine-tune a sentence-transformers model in place, on training cards only.

    The right answer of a question is told from the mined negatives and from the other answers of its batch
    (MultipleNegativesRankingLoss, after Henderson et al., Efficient Natural Language Response Suggestion for Smart
    Reply, 2017).

    Parameters
    ----------
    before : the model's embeddings of the cards, by which the negatives are mined.
    scratch : where the trainer may write.

    Returns
    -------
    what was trained on, and the first and last training loss.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.util import semantic_search

    pairs = training_pairs(cards, answers, params.questions, seed)
    found = semantic_search(before.questions_of(pairs.card_id), before.answers, top_k=NEIGHBOURS)
    near = np.array([[hit["corpus_id"] for hit in hits] for hits in found])
    negatives = hard_negatives(pairs, answers, before.answers, near, params.negatives, seed)
    texts = answers.answer.to_numpy()
    columns = {"question": pairs.question.tolist(), "answer": texts[pairs.row].tolist()}
    columns |= {f"negative_{number}": texts[rows].tolist() for number, rows in enumerate(negatives.T, start=1)}

    freeze(model, params.frozen_layers)
    limit, model.max_seq_length = model.max_seq_length, min(params.max_tokens, model.max_seq_length)
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        warmup_steps=0.1,
        seed=seed,
        batch_sampler="no_duplicates",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train()
    model.max_seq_length = limit
    return {"questions": len(pairs), "steps": trainer.state.global_step} | ends(trainer.state.log_history)
