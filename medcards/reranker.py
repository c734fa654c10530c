"""The cross-encoder that scores a question and an answer together."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from medcards.contrastive import freeze, hard_negatives, training_pairs
from medcards.encoder import Embeddings
from medcards.manifests import model_folder
from medcards.params import Block
from medcards.references import checked_reference, reading


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


def train_reranker(
    encoder,
    cards: pd.DataFrame,
    answers: pd.DataFrame,
    embeddings: Embeddings,
    search: Callable,
    params: RerankerParams,
    seed: int,
    scratch: Path,
):
    """Train a cross-encoder on training questions, from the bi-encoder's own transformer.

    Question and answer go through it together; its token vectors are averaged, as the bi-encoder's are, and one linear
    layer makes them a score. The right answer is told from mined wrong ones by a softmax over each question's list
    (ListNet with one right answer: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007).

    Parameters
    ----------
    encoder : the sentence-transformers model; its transformer is trained in place.
    search : from question vectors and a number to the rows of as many near answers.
    scratch : where the trainer may write.

    Returns
    -------
    the cross-encoder, and the trainer's log: a list of entries with ``step`` and ``loss``.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling
    from transformers import set_seed

    own = cards[cards.query_set == "own"]  # what is re-ranked are the deck's own questions
    pairs = training_pairs(own, answers, params.questions, seed)
    asked = embeddings.questions_of(pairs.card_id)
    negatives = hard_negatives(
        pairs, answers, embeddings.answers, lambda k: search(asked, k)[0], params.negatives, seed
    )
    texts = answers.answer.to_numpy()
    lists = [[texts[row], *texts[wrong]] for row, wrong in zip(pairs.row, negatives, strict=True)]
    # ListNet's target is the softmax of the labels: so far apart, all of it is on the right answer.
    labels = [[100.0] + [0.0] * params.negatives] * len(pairs)

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
        logging_steps=5,
        save_strategy="no",
        report_to="none",
    )
    rows = Dataset.from_dict({"question": pairs.question.tolist(), "answers": lists, "labels": labels})
    trainer = CrossEncoderTrainer(
        model=model, args=settings, train_dataset=rows, loss=ListNetLoss(model, mini_batch_size=-1)
    )
    trainer.train()
    model.max_length = whole  # only training is cut shorter
    return model, [entry for entry in trainer.state.log_history if "loss" in entry]


def load_scorer(folder: Path, batch_size: int):
    """A function from (question, answer) pairs to relevance scores, higher is better; None if there is none.

    Parameters
    ----------
    folder : what the stage rerank_train wrote.
    batch_size : pairs at a time.
    """
    found = model_folder(folder)
    if found is None:
        return None
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    with reading(str(found), "a cross-encoder"):
        model = CrossEncoder(str(found), local_files_only=True)

    def score(pairs: list[tuple[str, str]]) -> np.ndarray:
        # The logits: a sigmoid makes sure scores equal, and what is sure is what comes first.
        return model.predict(pairs, batch_size=batch_size, activation_fn=Identity(), show_progress_bar=len(pairs) > 500)

    return score
