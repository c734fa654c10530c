"""finetune: teach the language model the training cards with LoRA (QLoRA where the base is quantised).

reads   data/cards, data/embeddings (which cards are near, where finetune.context_share asks for it)
writes  data/adapter, metrics/finetune.json, plots/finetune and plots/cost/finetune (live: `dvc plots show` draws them
        while it trains)

A run that was killed goes on from its last checkpoint when it is started again with the same inputs.
"""

from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from dvclive import Live
from matplotlib import pyplot as plt
from peft import PeftModel

from medcards.base.files import atomic, read_json, write_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.llm.generation import answer_nll
from medcards.llm.loading import LlmParams, compute_dtype, device, load_llm, load_tokenizer
from medcards.llm.training import Curves, FinetuneParams, LoraParams, save_adapter, train_adapter, training_rows
from medcards.report.model_card import adapter_card
from medcards.report.style import save
from medcards.search.context import nearest_training_cards
from medcards.search.encoder import Embeddings
from stages import DATA, METRICS, PLOTS, PROCESSES, RANK, fingerprint_of_model, load_params, pinned, run, scratch

CURVES = PLOTS / "finetune", PLOTS / "cost" / "finetune"
BLOCKS = "llm", "lora", "finetune"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")


def context_of(cards: pd.DataFrame, train: pd.DataFrame, params: FinetuneParams, seed: int) -> list[list[str]]:
    """What each training card comes with: nothing, or for a seeded share of them the nearest other training cards."""
    context: list[list[str]] = [[] for _ in range(len(train))]
    chosen = np.random.default_rng(seed).permutation(len(train))[: round(params.context_share * len(train))]
    if len(chosen):
        embeddings, pool = Embeddings.load(DATA / "embeddings", cards), cards[cards.split == "train"]
        found = nearest_training_cards(train.iloc[chosen], pool, embeddings, params.context_cards)
        for place, texts in zip(chosen, found, strict=True):
            context[place] = texts
    return context


def plot_losses(folder: Path) -> None:
    """A picture of DVCLive's loss curves, for those who read without a browser."""
    tables = {name: pd.read_table(folder / f"plots/metrics/{name}.tsv") for name in ("train_loss", "validation_loss")}
    data = pd.concat([table.set_axis(["step", "loss"], axis=1).assign(of=name) for name, table in tables.items()])
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, rows in data.groupby("of"):
        axes.plot(rows.step, rows.loss, marker="o", label=name)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per answer token)")
    axes.legend()
    save(figure, data, folder / "losses.png")


def main() -> dict | None:
    seed, llm, lora, params = load_params(seed=Seed, llm=LlmParams, lora=LoraParams, finetune=FinetuneParams)
    llm = pinned(llm, "llm")
    cards = card_tables.load(DATA / "cards")
    train = card_tables.sample(cards, "train", params.train_cards, seed)
    validation = card_tables.sample(cards, "validation", params.validation_cards, seed)
    tokenizer = load_tokenizer(llm)
    context = context_of(cards, train, params, seed)
    rows, counts = training_rows(tokenizer, train, llm.system_prompt, params.max_length, context)
    held_out, held_out_counts = training_rows(tokenizer, validation, llm.system_prompt, params.max_length)
    machine = {"device": torch.cuda.get_device_name() if device(llm) == "cuda" else "cpu", "processes": PROCESSES}

    blocks = {"seed": seed} | {
        name: block.model_dump() for name, block in zip(BLOCKS, (llm, lora, params), strict=True)
    }
    inputs = {"base": fingerprint_of_model(llm.model), "rows": rows.to_list(), "held_out": held_out.to_list()}
    with scratch("finetune", **blocks, **inputs, **machine) as folder, ExitStack() as open_files:
        folders = CURVES if RANK == 0 else ()
        lives = [open_files.enter_context(Live(str(to), dvcyaml=False, save_dvc_exp=False)) for to in folders]
        curves = [Curves(*lives)]
        done = train_adapter(llm, tokenizer, rows, held_out, lora, params, seed, folder, curves, PROCESSES)
        if RANK != 0:
            return None
        metrics = {
            "model": llm.model,
            "quantize": llm.quantize,
            "dtype": str(compute_dtype(llm)).removeprefix("torch."),
            "train": counts,
            "validation": held_out_counts,
            **machine,
            **done.facts,
            "curve": curve(done.log),
            **compare(done.best, validation, llm, params.batch_size, seed),
        }
        manifest = {**blocks, "metrics": metrics, "packages": {name: metadata.version(name) for name in PACKAGES}}
        manifest["material"] = read_json(METRICS / "prepare.json")["material"]
        with atomic(DATA / "adapter") as adapter:
            save_adapter(done.best, adapter, llm.model, tokenizer)
            write_json(adapter / "manifest.json", manifest)
            (adapter / "README.md").write_text(adapter_card(manifest), encoding="utf-8")
        plot_losses(CURVES[0])
        write_json(METRICS / "finetune.json", metrics)
    return speed(done.log)


def curve(log: list[dict]) -> dict:
    """Where the losses start, and where they end or are lowest."""
    train = [entry["loss"] for entry in log if "loss" in entry]
    validation = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return {
        "train": {"first": train[0], "last": train[-1]},
        "validation": {"first": validation[0], "lowest": min(validation)},
    }


def compare(adapter: Path, validation: pd.DataFrame, llm: LlmParams, batch_size: int, seed: int) -> dict:
    """Likelihood of the validation answers under the base and under the adapter as it was saved, and the difference."""
    base, tokenizer = load_llm(llm)
    model = PeftModel.from_pretrained(base, adapter)
    held_out = validation.question.tolist(), validation.answer.tolist(), llm.system_prompt, batch_size
    with model.disable_adapter():
        before = np.array(answer_nll(model, tokenizer, *held_out, "validation, base"))
    after = np.array(answer_nll(model, tokenizer, *held_out, "validation, tuned"))
    bootstrap = Bootstrap(validation.group, seed)
    return {
        "validation_nll": {"base": bootstrap.interval(before), "tuned": bootstrap.interval(after)},
        "differences": {"tuned-base": {"validation_nll": bootstrap.interval(after - before)}},
    }


def speed(log: list[dict]) -> dict[str, float]:
    """The training's tokens a second, in the middle, and on a GPU the most memory that it held."""
    measured = {"tokens_per_second": float(np.median([entry["tokens_per_second"] for entry in log if "loss" in entry]))}
    if torch.cuda.is_available():
        measured["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return measured


if __name__ == "__main__":
    run("finetune", main)
