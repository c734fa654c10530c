"""A linear layer after the bi-encoder, trained on the deck's vectors. The transformer is not read again."""

from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from medcards.deck.words import normalise
from medcards.search.vectors import Vectors

SCALE = 20.0
"""Factor of the cosine similarities in the softmax, as in sentence-transformers' ranking losses."""
BATCH = 256
"""Number of questions per optimizer step."""
LEARNING_RATE = 1e-3
COMPARED = 8192
"""Largest number of training answers that a question is compared with. It bounds the time of a step."""


def train_projection(
    pairs: pd.DataFrame, answers: pd.DataFrame, vectors: Vectors, epochs: int, seed: int
) -> tuple[np.ndarray, list[float]]:
    """Train a matrix that brings the vectors of questions nearer to those of their answers.

    The matrix starts as the identity. A softmax over the cosine similarities to the training answers separates the
    right answer from the others (InfoNCE: van den Oord et al., Representation Learning with Contrastive Predictive
    Coding, 2018). All training answers are compared, not only those of a batch, because the vectors are known.

    Parameters
    ----------
    pairs : training questions, see :func:`medcards.search.negatives.training_pairs`.
    answers : the corpus, in the order of ``vectors.answers``. Equal texts count as one answer. An answer to the same
        question, or of the same concept, counts neither as right nor as wrong.
    epochs : passes over the questions.

    Returns
    -------
    matrix : float32, shape (dimension, dimension), for ``vectors @ matrix.T``.
    losses : the loss of every optimizer step, in nats per question.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    training = np.flatnonzero((answers.split == "train").to_numpy())
    code, _ = pd.factorize(answers.answer.map(normalise))
    first = pd.Series(training, index=code[training])
    first = first[~first.index.duplicated()]  # one row per text of a training answer
    right = torch.from_numpy(pd.Index(first.index).get_indexer(code[pairs.row]))
    questions = torch.from_numpy(vectors.questions_of(pairs.card_id))
    searched = torch.from_numpy(vectors.answers[first.to_numpy()])
    asked, concepts = (torch.from_numpy(_codes(answers, name)) for name in ("question", "concept"))
    row_of = torch.tensor(first.to_numpy())  # of each text, its row in the corpus
    own_row = torch.tensor(pairs.row.to_numpy())

    random = torch.Generator().manual_seed(seed)
    layer = torch.eye(searched.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([layer], lr=LEARNING_RATE, weight_decay=0.0)
    losses = []
    for _ in range(epochs):
        batches = torch.randperm(len(questions), generator=random).split(BATCH)
        for batch in tqdm(batches, desc="linear layer"):
            others = torch.randperm(len(searched), generator=random)[:COMPARED]
            rows, places = torch.cat([right[batch], others]).unique(return_inverse=True)
            found = normalize(searched[rows] @ layer.T, dim=1)
            similarity = normalize(questions[batch] @ layer.T, dim=1) @ found.T
            also_right = torch.zeros(similarity.shape, dtype=torch.bool)
            for code_of in (asked, concepts):
                also_right |= code_of[own_row[batch]][:, None] == code_of[row_of[rows]]
            also_right[torch.arange(len(batch)), places[: len(batch)]] = False
            similarity = similarity.masked_fill(also_right, -torch.inf)
            loss = cross_entropy(SCALE * similarity, places[: len(batch)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return layer.detach().numpy(), losses


def _codes(answers: pd.DataFrame, name: str) -> np.ndarray:
    """A number for each value of a column; an empty value has a number of its own in each row."""
    values = answers[name].map(normalise)
    return pd.factorize(values.where(values != "", answers.card_id))[0]


def project(vectors: Vectors, matrix: np.ndarray) -> Vectors:
    """The vectors after the linear layer, with length 1 again.

    Parameters
    ----------
    matrix : see :func:`train_projection`.
    """

    def apply(rows: np.ndarray) -> np.ndarray:
        moved = rows @ matrix.T
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    return replace(vectors, answers=apply(np.asarray(vectors.answers)), questions=apply(np.asarray(vectors.questions)))


def add_projection(model, matrix: np.ndarray) -> None:
    """Append the linear layer to a sentence-transformers model. Vectors have length 1 before it and after it.

    Parameters
    ----------
    matrix : see :func:`train_projection`.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    rows, columns = matrix.shape
    layer = Dense(columns, rows, bias=False, activation_function=torch.nn.Identity())
    layer.linear.weight.data = torch.from_numpy(matrix.copy()).to(model.device)
    if not isinstance(model[-1], Normalize):
        model.append(Normalize())
    model.append(layer)
    model.append(Normalize())
