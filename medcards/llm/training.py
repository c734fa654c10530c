"""LoRA fine-tuning with TRL and PEFT: rows, order, training, checkpoints."""

import gc
import logging
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import LoraConfig
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerCallback, TrainerState, set_seed
from trl import SFTConfig, SFTTrainer

from medcards import InputError
from medcards.base.params import Block
from medcards.llm.loading import LlmParams, compute_dtype, device, load_llm
from medcards.llm.prompts import answer_ids, prompt_ids

log = logging.getLogger(__name__)

WHOLE = "whole"
"""A file of this name is written last into a checkpoint: one without it was cut off."""


class LoraParams(Block):
    """The adapter (Hu et al., 2021), see params.yaml.

    Of PEFT's initialisations those are offered that leave the base's weights as they are: base and tuned model are
    compared by switching the adapter off.
    """

    r: PositiveInt
    alpha: PositiveInt
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]
    use_rslora: bool
    use_dora: bool
    init: Literal["default", "gaussian", "orthogonal"]


class FinetuneParams(Block):
    """The training run, see params.yaml."""

    launch: str
    train_cards: PositiveInt
    validation_cards: PositiveInt
    context_share: float = Field(ge=0, le=1)
    context_cards: PositiveInt
    max_length: PositiveInt
    epochs: PositiveFloat
    batch_size: PositiveInt
    gradient_accumulation: PositiveInt
    learning_rate: PositiveFloat
    schedule: Literal["cosine", "linear", "constant_with_warmup"]
    warmup_share: float = Field(ge=0, lt=1)
    max_grad_norm: PositiveFloat
    activation_checkpointing: bool
    log_steps: PositiveInt
    evaluate_steps: NonNegativeInt
    patience: NonNegativeInt


@dataclass
class Training:
    """What a training run leaves: the folder of its best checkpoint, its log, and what is worth knowing of it."""

    best: Path
    log: list[dict]
    facts: dict


class Curves(TrainerCallback):
    """Sends the trainer's log to DVCLive, with the optimizer step as x.

    A run that goes on from a checkpoint starts with what was logged before it, so that its curves are those of a run
    that was never broken.

    Parameters
    ----------
    live : gets losses, learning rate and gradient norm, which are equal in every run.
    clocked : gets the tokens a second, which are not. Of several processes the first alone has these two.
    """

    names = {
        "loss": "train_loss",
        "eval_loss": "validation_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "gradient_norm",
    }
    clocked_names = {"tokens_per_second": "tokens_per_second"}

    def __init__(self, live=None, clocked=None):
        self.lives = [(to, names) for to, names in ((live, self.names), (clocked, self.clocked_names)) if to]
        self._seconds = self._tokens = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        for entry in state.log_history:
            self._send(entry["step"], entry)

    def on_step_begin(self, args, state, control, **kwargs):
        self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self._seconds += time.perf_counter() - self._started
        if state.global_step % state.save_steps == 0 or state.global_step == state.max_steps:
            control.should_log = True  # or a checkpoint would cut a mean in two

    def on_log(self, args, state, control, logs=None, **kwargs):
        entry = state.log_history[-1]  # which goes into the next checkpoint
        if "loss" in entry:
            tokens = entry["num_tokens"]
            entry["tokens_per_second"] = (tokens - self._tokens) / self._seconds
            self._seconds, self._tokens = 0.0, tokens
        self._send(state.global_step, entry)

    def _send(self, step: int, entry: dict) -> None:
        for live, names in self.lives:
            live.step = step
            for name, ours in names.items():
                if name in entry:
                    live.log_metric(ours, float(entry[name]))
            live.make_summary()


def training_rows(
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    system_prompt: str,
    max_length: int,
    context: list[list[str]] | None = None,
) -> tuple[Dataset, dict[str, int]]:
    """Cards as TRL's tokenised prompt and completion, whose loss counts the completion only.

    A row that is longer than ``max_length`` first loses its context, from the last card on, then the end of its
    answer; one whose question leaves no room for an answer is left out.

    Parameters
    ----------
    max_length : tokens of a row.
    context : for each card, the texts that stand before its question; none by default.

    Returns
    -------
    the rows, and how many there are, how many were cut, and so on.

    Raises
    ------
    InputError : no row has room for an answer.
    """
    rows = []
    counts = dict.fromkeys(("with_context", "context_cards_left_out", "answers_cut", "left_out"), 0)
    for number, card in enumerate(cards.itertuples()):
        answer = answer_ids(tokenizer, card.question, card.answer, system_prompt)
        texts = list(context[number]) if context else []
        head = prompt_ids(tokenizer, card.question, system_prompt, texts)
        while texts and len(head) + len(answer) > max_length:
            texts.pop()
            counts["context_cards_left_out"] += 1
            head = prompt_ids(tokenizer, card.question, system_prompt, texts)
        if len(head) >= max_length:
            counts["left_out"] += 1
            continue
        counts["with_context"] += bool(texts)
        counts["answers_cut"] += len(head) + len(answer) > max_length
        ids = (head + answer)[:max_length]
        rows.append({"input_ids": ids, "completion_mask": [int(place >= len(head)) for place in range(len(ids))]})
    if not rows:
        raise InputError(f"finetune.max_length={max_length} tokens leave no room for an answer: raise it")
    counts |= {"rows": len(rows), "tokens": sum(len(row["input_ids"]) for row in rows)}
    for what in ("context_cards_left_out", "answers_cut", "left_out"):
        if counts[what]:
            log.info("%s: %d of %d rows (finetune.max_length)", what.replace("_", " "), counts[what], len(cards))
    return Dataset.from_list(rows), counts


def training_order(lengths: list[int], params: FinetuneParams, seed: int) -> list[int]:
    """Which row is trained on when, over all epochs: at random, and within an optimizer step by length.

    Batches of like lengths waste little on padding, and a step learns from the same cards as without the sorting
    (``benchmarks/batches.py`` compares the ways). The order hangs neither on the number of devices nor on where a run
    was broken off, so all give one result. Every step is full, since several devices would fill the last one up with
    cards that it has not: the few at the end that make no whole step are left out.

    Returns
    -------
    row numbers; ``params.epochs`` times as many as there are rows, less what makes no whole step.
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


class _Trainer(SFTTrainer):
    """Marks a checkpoint as whole once it is, says in one line that one could not be saved, and goes on exactly."""

    def _save_checkpoint(self, model, trial):
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # what Python, PyTorch and safetensors say of a disk
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # out of memory, a lost process
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the checkpoint of step {self.state.global_step} could not be saved in {self.args.output_dir} "
                f"({reason}); free space, run again, and training goes on from the last one that was"
            ) from error
        self.accelerator.wait_for_everyone()  # each process writes a part
        if self.is_world_process_zero():
            (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / WHOLE).touch()

    def _load_from_checkpoint(self, *arguments, **options):
        """TRL trains adapters of quantised bases in bfloat16; PEFT loads them as float32."""
        dtypes = {name: weight.dtype for name, weight in self.model.named_parameters() if weight.requires_grad}
        super()._load_from_checkpoint(*arguments, **options)
        for name, weight in self.model.named_parameters():
            if name in dtypes:
                weight.data = weight.data.to(dtypes[name])


def whole_checkpoints(scratch: Path) -> list[Path]:
    """The checkpoints that were saved to their end, oldest first."""
    found = [mark.parent for mark in scratch.glob(f"checkpoint-*/{WHOLE}")]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))


def lora_config(lora: LoraParams) -> LoraConfig:
    """PEFT's form of the ``lora`` block."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights=True if lora.init == "default" else lora.init,
        task_type="CAUSAL_LM",
    )


def trainer_settings(
    llm: LlmParams, params: FinetuneParams, rows: int, seed: int, scratch: Path, processes: int = 1
) -> SFTConfig:
    """TRL's form of the ``finetune`` block, for ``rows`` rows that lie in the order of :func:`training_order`.

    Parameters
    ----------
    processes : that train together. They share an optimizer step's cards, so its size does not hang on their number.

    Raises
    ------
    InputError : an optimizer step's batches cannot be shared.
    """
    if params.gradient_accumulation % processes:
        raise InputError(
            f"finetune.gradient_accumulation={params.gradient_accumulation} cannot be shared by {processes} processes: "
            "make it a multiple, and finetune.batch_size smaller"
        )
    steps = -(-rows // (params.batch_size * params.gradient_accumulation))
    evaluate_steps = params.evaluate_steps or max(1, round(steps / params.epochs))
    dtype = compute_dtype(llm)
    settings = SFTConfig(
        output_dir=str(scratch),
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation // processes,
        num_train_epochs=1,  # the rows hold all epochs
        train_sampling_strategy="sequential",
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.schedule,
        warmup_steps=params.warmup_share,
        max_grad_norm=params.max_grad_norm,
        max_length=None,  # the rows are cut
        loss_type="nll",
        completion_only_loss=True,
        activation_checkpointing=params.activation_checkpointing,
        eval_strategy="steps",
        eval_steps=evaluate_steps,
        eval_on_start=True,
        logging_steps=params.log_steps,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=evaluate_steps,
        save_total_limit=3,  # the best, the last, and the one before, until the last is marked as whole
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        restore_callback_states_from_checkpoint=True,
        report_to="none",
        seed=seed,
        use_cpu=device(llm) == "cpu",
        bf16=dtype == torch.bfloat16,
        dataloader_pin_memory=device(llm) != "cpu",
        ddp_find_unused_parameters=False,
    )
    if processes == 1:
        settings._n_gpu = min(settings.n_gpu, 1)  # else Trainer would use all GPUs by DataParallel, which TRL refuses
    return settings


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
    """Train a LoRA adapter on a base model, or go on with the training that left checkpoints in ``scratch``.

    Parameters
    ----------
    train, validation : rows of :func:`training_rows`.
    scratch : where the checkpoints lie; the caller removes it, and gives another one for other settings or rows.
    processes : that train together, of which this is one.

    Raises
    ------
    InputError : the settings do not fit the model, say a target module that it lacks; the loss is not finite; or a
        checkpoint cannot be saved.
    """
    order = training_order([len(ids) for ids in train["input_ids"]], params, seed)
    settings = trainer_settings(llm, params, len(order), seed, scratch, processes)
    (last,) = broadcast_object_list([next(reversed(whole_checkpoints(scratch)), None)])  # as the first process sees it
    settings.eval_on_start = last is None
    model, _ = load_llm(llm)
    facts = {"base_bytes": model.get_memory_footprint(), "attention": model.config._attn_implementation}
    set_seed(seed)  # before the adapter draws its weights
    try:
        trainer = _Trainer(
            model=model,
            args=settings,
            train_dataset=train.select(order),
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=lora_config(lora),
            callbacks=[*callbacks, *([EarlyStoppingCallback(params.patience)] if params.patience else [])],
        )
    except ValueError as error:  # what PEFT and TRL say of settings that do not fit the model
        raise InputError(f"lora and finetune do not fit this model: {' '.join(str(error).split())[:300]}") from error
    facts |= dict(zip(("trainable_parameters", "parameters"), trainer.model.get_nb_trainable_parameters(), strict=True))
    if last and _stopped_early(last, params.patience):  # and was killed before it could say so
        trainer.state = _state(last)
        for callback in callbacks:
            callback.on_train_begin(settings, trainer.state, trainer.control)
    else:
        if last:
            log.info("going on from the checkpoint of step %s", last.name.rpartition("-")[2])
        trainer.train(resume_from_checkpoint=last and str(last))
    state = trainer.state
    if state.best_global_step is None:
        raise InputError("the validation loss is not finite: lower finetune.learning_rate")
    trainer.accelerator.wait_for_everyone()  # before any of them ends what they speak through
    trainer.accelerator.end_training()
    del trainer, model
    gc.collect()  # the caller loads the base again
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    facts |= {"trainable_share": facts["trainable_parameters"] / facts["parameters"], "steps": state.global_step}
    facts |= {
        "cards_seen": len(order),
        "best_step": state.best_global_step,
        "stopped_early": state.global_step < state.max_steps,
    }
    return Training(scratch / f"checkpoint-{state.best_global_step}", state.log_history, facts)


def save_adapter(checkpoint: Path, folder: Path, base: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a checkpoint's adapter as safetensors, with the tokenizer and its template, and nothing pickled.

    The adapter names its base model by reference, and not by a path of this machine.
    """
    config = LoraConfig.from_pretrained(checkpoint)
    config.base_model_name_or_path = base
    if isinstance(config.target_modules, set):  # whose order changes from process to process
        config.target_modules = sorted(config.target_modules)
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    shutil.copyfile(checkpoint / "adapter_model.safetensors", folder / "adapter_model.safetensors")


def _state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(checkpoint / "trainer_state.json")


def _stopped_early(checkpoint: Path, patience: int) -> bool:
    saved = _state(checkpoint).stateful_callbacks.get("EarlyStoppingCallback")
    return bool(saved) and saved["attributes"]["early_stopping_patience_counter"] >= patience
