"""LoRA fine-tuning with TRL and PEFT: order of the rows, settings, training."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from transformers import (
    EarlyStoppingCallback,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
    set_seed,
)
from trl import SFTConfig

from medcards import InputError, reason_of
from medcards.base.checkpoints import last_checkpoint, step_of
from medcards.base.params import Block
from medcards.llm.checkpoints import saved_state, stopped_early
from medcards.llm.loading import LlmParams, compute_dtype, device, generation_settings, load_llm
from medcards.llm.lora import LoraParams, lora_config
from medcards.llm.trainer import CardTrainer, validation_nll

log = logging.getLogger(__name__)


class FinetuneParams(Block):
    """The training run, see params.yaml."""

    launch: str
    max_length: PositiveInt
    epochs: PositiveFloat
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt
    learning_rate: PositiveFloat
    schedule: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_share: float = Field(ge=0, lt=1)
    max_grad_norm: PositiveFloat
    activation_checkpointing: bool
    citation_weight: PositiveFloat
    log_steps: PositiveInt
    evaluate_steps: NonNegativeInt
    patience: NonNegativeInt


@dataclass
class Training:
    """A finished training run.

    ``best`` is the folder of its best checkpoint, ``log`` the trainer's log. ``nll`` has the mean negative
    log-likelihood of each validation answer under the ``base`` and under the ``tuned`` model, in nats per token.
    ``facts`` are for the metrics. ``generation`` says how the tuned model answers, and which tokens end an answer.
    """

    best: Path
    generation: GenerationConfig
    log: list[dict]
    nll: dict[str, list[float]]
    facts: dict


def training_order(lengths: list[int], params: FinetuneParams, seed: int) -> list[int]:
    """The order of the rows over all epochs: random, and sorted by length within an optimizer step.

    Batches of similar lengths need little padding, and each step has the same cards as without the sorting. The order
    depends neither on the number of devices nor on where a run was interrupted, so the result does not depend on them
    either. Several devices would fill up an incomplete last step with repeated cards; therefore the rows at the end
    that do not fill a step are left out.

    Parameters
    ----------
    lengths : tokens of each row.

    Returns
    -------
    row numbers: ``params.epochs`` times the number of rows, rounded down to whole optimizer steps.
    """
    random = np.random.default_rng(seed)
    epochs = [random.permutation(len(lengths)) for _ in range(math.ceil(params.epochs))]
    order = np.concatenate(epochs)[: max(1, round(params.epochs * len(lengths)))].tolist()
    step = params.batch_size * params.gradient_accumulation
    order = order[: len(order) // step * step] or order
    return [
        row
        for start in range(0, len(order), step)
        for row in sorted(order[start : start + step], key=lengths.__getitem__)
    ]


def trainer_settings(
    llm: LlmParams, params: FinetuneParams, rows: int, seed: int, scratch: Path, processes: int = 1
) -> SFTConfig:
    """TRL's form of the ``finetune`` block, for rows in the order of :func:`training_order`.

    Parameters
    ----------
    rows : number of rows over all epochs.
    scratch : folder of the checkpoints.
    processes : number of processes that train together. They share the cards of an optimizer step, so the number of
        cards in a step does not depend on it.

    Raises
    ------
    InputError : the batches of an optimizer step cannot be shared by the processes.
    """
    if params.gradient_accumulation % processes:
        raise InputError(
            f"finetune.gradient_accumulation={params.gradient_accumulation} cannot be shared by {processes} processes: "
            "make it a multiple, and finetune.batch_size smaller"
        )
    settings = SFTConfig(
        output_dir=str(scratch),
        max_length=None,  # the rows are already cut
        loss_type="nll",
        completion_only_loss=True,
        report_to="none",
        seed=seed,
        use_cpu=device(llm) == "cpu",
        bf16=compute_dtype(llm) == torch.bfloat16,
        dataloader_pin_memory=device(llm) != "cpu",
        ddp_find_unused_parameters=False,
        **_optimizer_settings(params, processes),
        **_checkpoint_settings(params, rows),
    )
    if processes == 1:
        settings._n_gpu = min(settings.n_gpu, 1)  # with more, Trainer uses DataParallel, which TRL refuses
    return settings


def _optimizer_settings(params: FinetuneParams, processes: int) -> dict[str, object]:
    """Batches, epochs, learning rate and gradients."""
    return {
        "per_device_train_batch_size": params.batch_size,
        "per_device_eval_batch_size": params.batch_size,
        "gradient_accumulation_steps": params.gradient_accumulation // processes,
        "num_train_epochs": 1,  # the rows hold all epochs
        "train_sampling_strategy": "sequential",
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": params.schedule,
        "warmup_steps": params.warmup_share,
        "max_grad_norm": params.max_grad_norm,
        "activation_checkpointing": params.activation_checkpointing,
    }


def _checkpoint_settings(params: FinetuneParams, rows: int) -> dict[str, object]:
    """When the trainer logs, validates and saves."""
    steps = -(-rows // (params.batch_size * params.gradient_accumulation))
    evaluate_steps = params.evaluate_steps or max(1, round(steps / params.epochs))
    return {
        "eval_strategy": "steps",
        "eval_steps": evaluate_steps,
        "eval_on_start": True,
        "logging_steps": params.log_steps,
        "logging_first_step": True,
        "save_strategy": "steps",
        "save_steps": evaluate_steps,
        "save_total_limit": 3,  # the best, the last, and the one before it until the last is marked as whole
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "restore_callback_states_from_checkpoint": True,
    }


def train_adapter(
    llm: LlmParams,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    lora: LoraParams,
    params: FinetuneParams,
    seed: int,
    scratch: Path,
    callbacks: list[TrainerCallback],
    processes: int = 1,
) -> Training:
    """Train a LoRA adapter on a base model, or resume the training that left checkpoints in ``scratch``.

    Parameters
    ----------
    train, validation : rows of :func:`medcards.llm.tokenise.training_rows`.
    scratch : folder of the checkpoints. The caller removes it, and gives another one for other settings or rows.
    processes : number of processes that train together. This is one of them.

    Raises
    ------
    InputError : the settings do not fit the model (for example a target module that it lacks), the loss is not
        finite, or a checkpoint cannot be saved.
    """
    order = training_order([len(ids) for ids in train["input_ids"]], params, seed)
    settings = trainer_settings(llm, params, len(order), seed, scratch, processes)
    (last,) = broadcast_object_list([last_checkpoint(scratch)])  # the first process decides
    settings.eval_on_start = last is None
    model, _ = load_llm(llm)
    facts = {"base_bytes": model.get_memory_footprint(), "attention": model.config._attn_implementation}
    generation = generation_settings(model, tokenizer)
    set_seed(seed)  # before the adapter draws its weights
    stopping = [EarlyStoppingCallback(params.patience)] if params.patience else []
    rows, weight = (train.select(order), validation), params.citation_weight
    trainer = _trainer(model, tokenizer, *rows, lora, settings, [*callbacks, *stopping], weight)
    trainable, total = trainer.model.get_nb_trainable_parameters()
    state = _run(trainer, last, params.patience, callbacks)
    facts |= {
        "packed": trainer.packed,
        "trainable_parameters": trainable,
        "parameters": total,
        "trainable_share": trainable / total,
        "steps": state.global_step,
        "cards_seen": len(order),
        "best_step": state.best_global_step,
        "stopped_early": state.global_step < state.max_steps,
    }
    nll = {"base": validation_nll(scratch, 0), "tuned": validation_nll(scratch, state.best_global_step)}
    return Training(scratch / f"checkpoint-{state.best_global_step}", generation, state.log_history, nll, facts)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    lora: LoraParams,
    settings: SFTConfig,
    callbacks: list[TrainerCallback],
    citation_weight: float,
) -> CardTrainer:
    """The trainer, with a new adapter on the model."""
    try:
        return CardTrainer(
            model=model,
            args=settings,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=lora_config(lora),
            callbacks=callbacks,
            citation_weight=citation_weight,
        )
    except ValueError as error:  # PEFT and TRL raise it for settings that do not fit the model
        raise InputError(f"lora and finetune do not fit this model: {reason_of(error, 300)}") from error


def _run(trainer: CardTrainer, last: Path | None, patience: int, callbacks: list[TrainerCallback]) -> TrainerState:
    """Train from the start or from the checkpoint ``last``. Returns the trainer's state at the end."""
    if last and stopped_early(last, patience):  # the run was killed between its last step and its result
        trainer.state = saved_state(last)
        for callback in callbacks:
            callback.on_train_begin(trainer.args, trainer.state, trainer.control)
    else:
        if last:
            log.info("training resumes from the checkpoint of step %d", step_of(last))
        trainer.train(resume_from_checkpoint=last and str(last))
    if trainer.state.best_global_step is None:
        raise InputError("the validation loss is not finite: lower finetune.learning_rate")
    trainer.accelerator.wait_for_everyone()  # before the first process ends the group
    trainer.accelerator.end_training()
    return trainer.state
