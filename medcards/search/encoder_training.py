"""Settings that the adaptation of the bi-encoder and the training of the cross-encoder share."""

from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from medcards import InputError
from medcards.base.params import Block

WARM_UP = 0.1
"""Share of the optimizer steps in which the learning rate rises to its peak."""


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
    scratch : folder that the trainer may write to.
    """
    return {
        "output_dir": str(scratch),
        "num_train_epochs": params.epochs,
        "per_device_train_batch_size": params.batch_size,
        "learning_rate": params.learning_rate,
        "warmup_steps": WARM_UP,
        "seed": seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }


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
