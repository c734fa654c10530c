"""LoRA fine-tuning with TRL and PEFT."""

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from medcards import InputError
from medcards.llm import compute_dtype, device, prompt
from medcards.params import Block


class LoraParams(Block):
    """The adapter (Hu et al., 2021), see params.yaml."""

    r: PositiveInt
    alpha: PositiveInt
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]


class FinetuneParams(Block):
    """The training run, see params.yaml."""

    train_cards: PositiveInt
    validation_cards: PositiveInt
    max_length: PositiveInt
    epochs: PositiveFloat
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt
    learning_rate: PositiveFloat
    schedule: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_share: float = Field(ge=0, lt=1)
    activation_checkpointing: bool
    log_steps: PositiveInt
    evaluate_steps: NonNegativeInt


class Curves(TrainerCallback):
    """Sends the trainer's figures to DVCLive, with the optimizer step as x."""

    names = {
        "loss": "train_loss",
        "eval_loss": "validation_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    }

    def __init__(self, live):
        self.live = live

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.live.step = state.global_step
        for name, value in (logs or {}).items():
            if name in self.names:
                self.live.log_metric(self.names[name], float(value))
        self.live.make_summary()


def training_rows(cards: pd.DataFrame, system_prompt: str) -> Dataset:
    """Cards as TRL's conversational prompt and completion, which gives a loss on the completion only."""
    return Dataset.from_list(
        [
            {
                "prompt": prompt(card.question, system_prompt),
                "completion": [{"role": "assistant", "content": card.answer}],
            }
            for card in cards.itertuples()
        ]
    )


def train_adapter(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    lora: LoraParams,
    params: FinetuneParams,
    seed: int,
    scratch: Path,
    callbacks: list[TrainerCallback],
) -> PeftModel:
    """Train a LoRA adapter on a base model.

    Parameters
    ----------
    train, validation : rows of :func:`training_rows`.
    scratch : a folder that the trainer may use; nothing of value is left in it.

    Returns
    -------
    the model with its adapter.

    Raises
    ------
    InputError : the settings do not fit the model, say a target module that it lacks.
    """
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    settings = SFTConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation,
        num_train_epochs=params.epochs,
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.schedule,
        warmup_steps=params.warmup_share,
        max_length=params.max_length,
        loss_type="nll",
        completion_only_loss=True,
        activation_checkpointing=params.activation_checkpointing,
        eval_strategy="steps" if params.evaluate_steps else "epoch",
        eval_steps=params.evaluate_steps or None,
        eval_on_start=True,
        logging_steps=params.log_steps,
        logging_first_step=True,
        save_strategy="no",
        report_to="none",
        seed=seed,
        use_cpu=device() == "cpu",
        bf16=compute_dtype() == torch.bfloat16,
        dataloader_pin_memory=device() != "cpu",
    )
    try:
        trainer = SFTTrainer(
            model=model,
            args=settings,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=config,
            callbacks=callbacks,
        )
    except ValueError as error:  # what PEFT and TRL say of settings that do not fit the model
        raise InputError(f"lora and finetune do not fit this model: {' '.join(str(error).split())[:300]}") from error
    trainer.train()
    return trainer.model


def save_adapter(model: PeftModel, folder: Path, base: str) -> None:
    """Write the adapter as safetensors, naming its base model by reference and not by a path of this machine."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
        if isinstance(config.target_modules, set):  # whose order changes from process to process
            config.target_modules = sorted(config.target_modules)
    # The vocabulary never changes, so no embedding is saved; finding that out, PEFT would ask the hub for the base.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template, every field empty
