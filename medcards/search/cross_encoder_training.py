"""Training the cross-encoder from the bi-encoder, on training questions with mined wrong answers."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from medcards.base.params import Block
from medcards.base.references import checked_reference
from medcards.search.encoder import Embeddings
from medcards.search.index import HnswIndex
from medcards.search.negatives import NEIGHBOURS, freeze, hard_negatives, training_pairs


class RerankerParams(Block):
    """The cross-encoder and how it is trained, see params.yaml."""

    model: Annotated[str, AfterValidator(lambda text: text if text in ("none", "train") else checked_reference(text))]
    questions: PositiveInt
    negatives: PositiveInt
    epochs: PositiveFloat
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    frozen_layers: NonNegativeInt
    max_tokens: int = Field(ge=16)


def training_lists(
    cards: pd.DataFrame, embeddings: Embeddings, index: HnswIndex, params: RerankerParams, seed: int
) -> dict[str, list]:
    """Training questions, each with its right answer and mined wrong ones, as ListNet wants them.

    Only the deck's own questions, since only those are re-ranked.

    Returns
    -------
    ``{"question": [...], "answers": [[right, wrong, ...], ...], "labels": [[...], ...]}``
    """
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    pairs = training_pairs(answers, answers, params.questions, seed)
    near, _ = index.search(embeddings.questions_of(pairs.card_id), NEIGHBOURS)
    negatives = hard_negatives(pairs, answers, embeddings.answers, near, params.negatives, seed)
    texts = answers.answer.to_numpy()
    lists = [[texts[row], *texts[wrong]] for row, wrong in zip(pairs.row, negatives, strict=True)]
    # ListNet's target is the softmax of the labels: so far apart, all of it is on the right answer.
    labels = [[100.0] + [0.0] * params.negatives] * len(pairs)
    return {"question": pairs.question.tolist(), "answers": lists, "labels": labels}


def train_reranker(encoder, lists: dict[str, list], params: RerankerParams, seed: int, scratch: Path):
    """Train a cross-encoder from the bi-encoder's own transformer.

    Question and answer go through it together, the mean of its token vectors goes through one linear layer. The right
    answer is told from the wrong ones by a softmax over each question's list (ListNet with one right answer: Cao et
    al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007).

    Parameters
    ----------
    encoder : the sentence-transformers model; its transformer is trained in place.
    lists : see :func:`training_lists`.
    scratch : where the trainer may write.

    Returns
    -------
    the cross-encoder, and the training loss of every step.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling
    from transformers import set_seed

    freeze(encoder, params.frozen_layers)
    set_seed(seed)  # the linear layer starts at random
    width = encoder[0].get_embedding_dimension()
    score = Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    model = CrossEncoder(modules=[encoder[0], Pooling(width, pooling_mode="mean"), score], num_labels=1)
    whole, model.max_length = encoder.max_seq_length, min(params.max_tokens, encoder.max_seq_length)
    settings = CrossEncoderTrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        warmup_steps=0.1,
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    loss = ListNetLoss(model, mini_batch_size=-1)
    trainer = CrossEncoderTrainer(model=model, args=settings, train_dataset=Dataset.from_dict(lists), loss=loss)
    trainer.train()
    model.max_length = whole  # only training is cut shorter
    return model, pd.Series([float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry])
