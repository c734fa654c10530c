"""Compare four ways to fill batches, by training speed and validation loss.

    python -m benchmarks.batches --cards 100

Every way trains on the same cards, with the same number of cards per optimizer step: in random order; in random order,
sorted by length within a step (the pipeline's way); with cards of one length in each step; with several cards packed
into a row. PyTorch's own attention does not keep packed cards apart, so a card also sees the cards before it.
FlashAttention on a GPU keeps them apart.

It reads data/rows and, of params.yaml, the seed and the blocks llm, lora and finetune.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTTrainer

from medcards.base import params as parameters
from medcards.base.params import Seed
from medcards.llm.loading import LlmParams, load_llm, load_tokenizer
from medcards.llm.lora import LoraParams, lora_config
from medcards.llm.tokenise import training_rows
from medcards.llm.training import FinetuneParams, trainer_settings, training_order

WAYS = ("random", "sorted within a step", "one length a step", "packed")


def order_of(way: str, lengths: list[int], params: FinetuneParams, seed: int) -> list[int]:
    """The row numbers in the order of the training."""
    if way == "sorted within a step":
        return training_order(lengths, params, seed)
    if way == "one length a step":
        step = params.batch_size * params.gradient_accumulation
        return get_length_grouped_indices(lengths, step, generator=torch.Generator().manual_seed(seed))
    return np.random.default_rng(seed).permutation(len(lengths)).tolist()


def train(way: str, rows: Dataset, validation: Dataset, blocks: tuple, seed: int) -> tuple[int, float, float]:
    """Number of optimizer steps, seconds in training, and validation loss at the end."""
    llm, lora, params = blocks
    lengths = [len(ids) for ids in rows["input_ids"]]
    model, tokenizer = load_llm(llm)
    with tempfile.TemporaryDirectory() as scratch:
        settings = trainer_settings(llm, params, len(rows), seed, Path(scratch))
        settings.eval_strategy = settings.save_strategy = "no"
        settings.eval_on_start = settings.load_best_model_at_end = False
        if way == "packed":
            settings.packing, settings.eval_packing, settings.max_length = True, False, params.max_length
            cards_a_row = params.max_length / np.mean(lengths)
            batches = params.batch_size * params.gradient_accumulation / cards_a_row
            settings.per_device_train_batch_size, settings.gradient_accumulation_steps = 1, max(1, round(batches))
        set_seed(seed)
        trainer = SFTTrainer(
            model=model,
            args=settings,
            train_dataset=rows.select(order_of(way, lengths, params, seed)),
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=lora_config(lora),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        return trainer.state.global_step, seconds, trainer.evaluate()["eval_loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=100, help="training cards, at most (default 100)")
    parser.add_argument("--validation-cards", type=int, default=64, help="at most (default 64)")
    given = parser.parse_args()
    kinds = {"seed": Seed, "llm": LlmParams, "lora": LoraParams, "finetune": FinetuneParams}
    seed, *blocks = parameters.load("params.yaml", **kinds)
    llm, _, params = blocks
    tokenizer = load_tokenizer(llm)
    tables = []
    for split, count in (("train", given.cards), ("validation", given.validation_cards)):
        cards = pd.read_parquet(f"data/rows/{split}.parquet")
        cards = cards.sample(min(count, len(cards)), random_state=seed).sort_index()
        tables.append(training_rows(tokenizer, cards, llm.system_prompt, params.max_length, cards.context)[0])
    measured = {way: train(way, *tables, blocks, seed) for way in WAYS}
    print("| batches | optimizer steps | seconds in training | cards/s against random | validation loss |")
    print("|---|---:|---:|---:|---:|")
    for way, (steps, seconds, loss) in measured.items():
        print(f"| {way} | {steps} | {seconds:.0f} | {measured['random'][1] / seconds:.2f} | {loss:.3f} |")


if __name__ == "__main__":
    main()
