"""Which way to fill batches trains fastest at equal loss: cards at random, cards of one length, or packed rows.

    python -m benchmarks.batches --cards 200

Reads data/cards, the seed and the blocks llm, lora and finetune of params.yaml, and trains the same cards once each way
with the same number of cards an optimizer step. Packed rows are not kept apart from each other by PyTorch's own
attention (they are by FlashAttention, on a GPU): a card then also sees what was packed before it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from transformers import set_seed
from trl import SFTTrainer

from medcards import cards as card_tables
from medcards import params as parameters
from medcards.llm import LlmParams, load_llm
from medcards.params import Seed
from medcards.tuning import FinetuneParams, LoraParams, lora_config, trainer_settings, training_order, training_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=200, help="training cards")
    parser.add_argument("--validation-cards", type=int, default=64)
    given = parser.parse_args()
    blocks = {"seed": Seed, "llm": LlmParams, "lora": LoraParams, "finetune": FinetuneParams}
    seed, llm, lora, params = parameters.load("params.yaml", **blocks)
    cards = card_tables.load("data/cards")
    print("| batches | optimizer steps | seconds in training | cards/s against random | validation loss |")
    print("|---|---:|---:|---:|---:|")
    baseline = None
    for way in ("random", "one length", "packed"):
        model, tokenizer = load_llm(llm)
        train, _ = training_rows(
            tokenizer, card_tables.sample(cards, "train", given.cards, seed), llm.system_prompt, params.max_length
        )
        validation, _ = training_rows(
            tokenizer,
            card_tables.sample(cards, "validation", given.validation_cards, seed),
            llm.system_prompt,
            params.max_length,
        )
        lengths = [len(ids) for ids in train["input_ids"]]
        order = training_order(lengths, params, seed) if way == "one length" else shuffled(len(lengths), params, seed)
        with tempfile.TemporaryDirectory() as scratch:
            settings = trainer_settings(llm, params, len(order), seed, Path(scratch))
            settings.eval_strategy, settings.save_strategy, settings.eval_on_start = "no", "no", False
            settings.load_best_model_at_end = False
            if way == "packed":  # a packed row holds several cards, so fewer rows make an optimizer step
                settings.packing, settings.max_length, settings.eval_packing = True, params.max_length, False
                a_row = params.max_length / np.mean(lengths)
                settings.per_device_train_batch_size = 1
                settings.gradient_accumulation_steps = max(
                    1, round(params.batch_size * params.gradient_accumulation / a_row)
                )
            set_seed(seed)
            trainer = SFTTrainer(
                model=model,
                args=settings,
                train_dataset=train.select(order),
                eval_dataset=validation,
                processing_class=tokenizer,
                peft_config=lora_config(lora),
            )
            started = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - started
            baseline = baseline or seconds
            loss = trainer.evaluate()["eval_loss"]
        print(
            f"| {way} | {trainer.state.global_step} | {seconds:.0f} | {baseline / seconds:.2f} | {loss:.3f} |",
            flush=True,
        )


def shuffled(rows: int, params: FinetuneParams, seed: int) -> list[int]:
    """Each epoch in a random order."""
    random = np.random.default_rng(seed)
    return [int(place) for _ in range(int(np.ceil(params.epochs))) for place in random.permutation(rows)]


if __name__ == "__main__":
    main()
