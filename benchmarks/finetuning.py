"""Fine-tuning of the language model: TRL's SFTTrainer with its defaults against the stage finetune.

    python -m benchmarks.run finetuning

All ways train the same adapter on the same rows in the same optimizer steps, with the learning rates of params.yaml.
The plain way takes TRL's batch size, padding, loss and activation checkpointing. The second way takes TRL's defaults
without the checkpointing, which saves memory and costs time. Quality is the largest difference of a step's training
loss, and the difference of the validation loss at the end.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from benchmarks.flops import forward_flops, output_flops
from benchmarks.material import DATA, blocks, plain_llm
from benchmarks.measure import Benchmark, Way
from medcards.llm.loading import load_llm, load_tokenizer
from medcards.llm.lora import LoraParams, lora_config
from medcards.llm.params import LlmParams
from medcards.llm.tokenise import training_rows
from medcards.llm.trainer import CardTrainer
from medcards.llm.training import FinetuneParams, trainer_settings, training_order

CARDS, VALIDATION_CARDS = 48, 16


def benchmarks(cards: int) -> Iterator[Benchmark]:
    seed, llm, lora, params = blocks(llm=LlmParams, lora=LoraParams, finetune=FinetuneParams)
    params = params.model_copy(update={"epochs": 1.0, "evaluate_steps": 0})
    tokenizer, rows = load_tokenizer(llm), {}
    for split, count in (("train", cards), ("validation", VALIDATION_CARDS)):
        table = pd.read_parquet(DATA / "rows" / f"{split}.parquet").head(count)
        read = table.context, table.cited
        rows[split] = training_rows(tokenizer, table, llm.system_prompt, params.max_length, *read)[0]
    lengths = [len(ids) for ids in rows["train"]["input_ids"]]
    order = training_order(lengths, params, seed)
    data = {"train_dataset": rows["train"].select(order), "eval_dataset": rows["validation"]}
    scratch = tempfile.TemporaryDirectory()
    fitted = trainer_settings(llm, params, len(order), seed, Path(scratch.name))

    def trainer(kind: type, load, settings: SFTConfig) -> SFTTrainer:
        settings.eval_strategy = settings.save_strategy = "no"
        settings.load_best_model_at_end, settings.eval_on_start = False, False
        settings.logging_steps = 1
        model, words = load(llm)
        set_seed(seed)
        return kind(model=model, args=settings, processing_class=words, peft_config=lora_config(lora), **data)

    def plain(checkpointing: bool) -> SFTTrainer:
        same = ("learning_rate", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "train_sampling_strategy")
        same = {name: getattr(fitted, name) for name in (*same, "num_train_epochs", "seed", "use_cpu", "bf16")}
        options = {"activation_checkpointing": checkpointing, "report_to": "none", "output_dir": scratch.name}
        options["completion_only_loss"] = True  # TRL's default for prompts with completions, which these rows were
        steps = params.batch_size * params.gradient_accumulation // 8 or 1
        return trainer(SFTTrainer, plain_llm, SFTConfig(**same, **options, gradient_accumulation_steps=steps))

    def train(made: SFTTrainer) -> SFTTrainer:
        made.train()
        return made

    def quality(one: SFTTrainer, other: SFTTrainer) -> dict[str, str]:
        steps = [[entry["loss"] for entry in made.state.log_history if "loss" in entry] for made in (one, other)]
        ends = [validation_loss(made.model, rows["validation"]) for made in (one, other)]
        return {
            "largest difference of a step's loss": f"{np.abs(np.subtract(*steps)).max():.4f}",
            "validation loss": f"{ends[1] - ends[0]:+.4f}",
        }

    def flops(made: SFTTrainer) -> float:
        answer_tokens = sum(map(sum, rows["train"]["completion_mask"]))
        # The frozen weights take a forward pass and the gradient of its input.
        return 2 * (forward_flops(made.model, lengths, causal=True) + output_flops(made.model, answer_tokens))

    ways = {
        "TRL's defaults": Way(train, lambda: plain(True)),
        "TRL's defaults, no checkpointing": Way(train, lambda: plain(False)),
        "ours": Way(train, lambda: trainer(CardTrainer, load_llm, replace(fitted)), ours=True),
    }
    work = f"{len(order)} rows, {len(order) // (params.batch_size * params.gradient_accumulation)} steps"
    yield Benchmark("fine-tuning", work, ways, quality, sum(lengths[row] for row in order), "tokens", flops)
    scratch.cleanup()


@torch.inference_mode()
def validation_loss(model, rows) -> float:
    """The mean over the rows of each row's mean loss per answer token, one row at a time."""
    model.eval()
    losses = []
    for row in rows:
        ids, mask = torch.tensor([row["input_ids"]]), torch.tensor([row["completion_mask"]], dtype=torch.bool)
        losses.append(float(model(input_ids=ids, labels=ids.where(mask, -100)).loss))
    return float(np.mean(losses))
