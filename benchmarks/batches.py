"""Which way to fill batches trains fastest at equal loss.

    python -m benchmarks.batches --cards 100

Trains the same cards once each way, with the same number of cards an optimizer step: in random order; at random, sorted
by length within a step (what the pipeline does); each step with cards of one length; several cards packed into a row.
PyTorch's own attention does not keep packed cards apart (FlashAttention does, on a GPU): a card also sees those before
it. Reads data/cards, and the seed and the blocks llm, lora and finetune of params.yaml.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTTrainer

from medcards.base import params as parameters
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.llm.loading import LlmParams, load_llm, load_tokenizer
from medcards.llm.training import (
    FinetuneParams,
    LoraParams,
    lora_config,
    trainer_settings,
    training_order,
    training_rows,
)

WAYS = ("random", "sorted within a step", "one length a step", "packed")


def order_of(way: str, lengths: list[int], params: FinetuneParams, seed: int) -> list[int]:
    """Which row is trained on when."""
    if way == "sorted within a step":
        return training_order(lengths, params, seed)
    if way == "one length a step":
        step = params.batch_size * params.gradient_accumulation
        return get_length_grouped_indices(lengths, step, generator=torch.Generator().manual_seed(seed))
    return np.random.default_rng(seed).permutation(len(lengths)).tolist()


def train(way: str, rows: Dataset, validation: Dataset, blocks: tuple, seed: int) -> tuple[int, float, float]:
    """(optimizer steps, seconds in training, validation loss at the end)."""
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
    parser.add_argument("--cards", type=int, default=100, help="training cards (default 100)")
    parser.add_argument("--validation-cards", type=int, default=64, help="default 64")
    given = parser.parse_args()
    kinds = {"seed": Seed, "llm": LlmParams, "lora": LoraParams, "finetune": FinetuneParams}
    seed, *blocks = parameters.load("params.yaml", **kinds)
    llm, _, params = blocks
    cards, tokenizer = card_tables.load("data/cards"), load_tokenizer(llm)
    tables = [
        training_rows(tokenizer, card_tables.sample(cards, split, count, seed), llm.system_prompt, params.max_length)[0]
        for split, count in (("train", given.cards), ("validation", given.validation_cards))
    ]
    measured = {way: train(way, *tables, blocks, seed) for way in WAYS}
    print("| batches | optimizer steps | seconds in training | cards/s against random | validation loss |")
    print("|---|---:|---:|---:|---:|")
    for way, (steps, seconds, loss) in measured.items():
        print(f"| {way} | {steps} | {seconds:.0f} | {measured['random'][1] / seconds:.2f} | {loss:.3f} |")


if __name__ == "__main__":
    main()
