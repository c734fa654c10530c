"""Settings that the adaptation of the bi-encoder and the training of the cross-encoder share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from medcards import InputError
from medcards.base.batches import token_batches
from medcards.base.checkpoints import last_checkpoint, step_of
from medcards.base.params import Block
from medcards.search.encoder import BATCH_TOKENS

log = logging.getLogger(__name__)

WARM_UP = 0.1
"""Share of the optimizer steps in which the learning rate rises to its peak."""
BETWEEN_CHECKPOINTS = 0.2
"""Share of the optimizer steps between two checkpoints."""


class EncoderTrainingParams(Block):
    """The keys that the blocks ``adapt`` and ``reranker`` of params.yaml share."""

    questions: PositiveInt
    negatives: PositiveInt
    epochs: PositiveFloat
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    frozen_layers: NonNegativeInt
    max_tokens: int = Field(ge=16)


def encoder_trainer_settings(params: EncoderTrainingParams, seed: int, scratch: Path) -> dict[str, object]:
    """The arguments that sentence-transformers' trainers share.

    Parameters
    ----------
    scratch : folder of the checkpoints.
    """
    return {
        "output_dir": str(scratch),
        "num_train_epochs": params.epochs,
        "per_device_train_batch_size": params.batch_size,
        "learning_rate": params.learning_rate,
        "warmup_steps": WARM_UP,
        "seed": seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": BETWEEN_CHECKPOINTS,
        "save_total_limit": 2,  # the last, and the one before it until the last is marked as whole
        "report_to": "none",
    }


def without_dropout(model) -> None:
    """Switch dropout off in a model that is trained.

    It takes a fifth of the time of a step. Training makes about one pass over the questions, so there is little to
    overfit on.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


@contextmanager
def little_padding(transformer) -> Iterator[None]:
    """Inside the block, a transformer on a CPU reads a batch in parts of texts of similar lengths.

    A trainer pads all texts of a batch to the longest one. The transformer returns the same token vectors, so the loss
    is the same. On a GPU nothing changes, because one large batch is faster there; nor where texts are padded on the
    left.

    Parameters
    ----------
    transformer : the first module of a sentence-transformers model.
    """
    import torch

    read = transformer.forward

    def read_in_parts(features: dict[str, object], **options: object) -> dict[str, object]:
        mask = features["attention_mask"]
        if mask.device.type != "cpu" or not mask[:, 0].all():  # padded on the left
            return read(features, **options)
        lengths = mask.sum(dim=1).tolist()
        batches = token_batches(lengths, BATCH_TOKENS)
        found = []
        for rows in batches:
            width = lengths[rows[0]]
            part = {name: value[rows, :width] for name, value in features.items() if torch.is_tensor(value)}
            vectors = read(part, **options)["token_embeddings"]
            found.append(torch.nn.functional.pad(vectors, (0, 0, 0, mask.shape[1] - width)))
        places = torch.tensor([row for rows in batches for row in rows]).argsort()
        return features | {"token_embeddings": torch.cat(found)[places]}

    transformer.forward = read_in_parts
    try:
        yield
    finally:
        del transformer.forward  # the method of the class is visible again


def train(trainer, transformer) -> list[float]:
    """Train, from the last whole checkpoint where a killed run left one. See :func:`little_padding`.

    Returns
    -------
    the training loss of every optimizer step.
    """
    last = last_checkpoint(Path(trainer.args.output_dir))
    if last:
        log.info("training resumes from the checkpoint of step %d", step_of(last))
    trainer.model.model_card_data.generate_widget_examples = False  # the card of a checkpoint needs no examples
    with little_padding(transformer):
        trainer.train(resume_from_checkpoint=last and str(last))
    return training_losses(trainer.state.log_history)


def training_losses(history: list[dict]) -> list[float]:
    """The training loss of every optimizer step in a trainer's log."""
    return [float(entry["loss"]) for entry in history if "loss" in entry]


def freeze(encoder, layers: int) -> None:
    """Train only the layers of a sentence-transformers model above the lowest ``layers``; 0 trains everything.

    Raises
    ------
    InputError : the model is not a transformer, or has no layer left to train.
    """
    from torch import nn

    blocks = max((part for part in encoder[0].modules() if isinstance(part, nn.ModuleList)), key=len, default=[])
    if layers >= len(blocks):
        raise InputError(f"frozen_layers={layers}: the bi-encoder has {len(blocks)} layers, and one must be trained")
    if layers:
        trained = {id(weight) for block in list(blocks)[layers:] for weight in block.parameters()}
        for weight in encoder.parameters():
            weight.requires_grad = id(weight) in trained
