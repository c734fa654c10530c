"""finetune: teach the language model the training cards with LoRA (QLoRA where the base is quantised).

reads   data/cards
writes  data/adapter, metrics/finetune.json, plots/finetune (live: `dvc plots show` draws them while it trains)
"""

import shutil

import numpy as np
import pandas as pd
from dvclive import Live
from matplotlib import pyplot as plt

from medcards import InputError
from medcards import cards as card_tables
from medcards.figures import save
from medcards.files import atomic, write_json
from medcards.llm import LlmParams, answer_nll, compute_dtype, device, load_llm
from medcards.params import Seed
from medcards.stats import Bootstrap
from medcards.tuning import Curves, FinetuneParams, LoraParams, save_adapter, train_adapter, training_rows
from stages import DATA, METRICS, PLOTS, SCRATCH, load_params, pinned, run


def plot_losses(folder) -> None:
    """A picture of DVCLive's loss curves, for those who read without a browser."""
    tables = {name: pd.read_table(folder / f"plots/metrics/{name}.tsv") for name in ("train_loss", "validation_loss")}
    data = pd.concat([table.set_axis(["step", "loss"], axis=1).assign(of=name) for name, table in tables.items()])
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, rows in data.groupby("of"):
        axes.plot(rows.step, rows.loss, marker="o", label=name)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per answer token)")
    axes.legend()
    save(figure, data, folder / "losses.png")


def main() -> None:
    seed, llm, lora, params = load_params(seed=Seed, llm=LlmParams, lora=LoraParams, finetune=FinetuneParams)
    llm = pinned(llm, "llm")
    cards = card_tables.load(DATA / "cards")
    train = card_tables.sample(cards, "train", params.train_cards, seed)
    validation = card_tables.sample(cards, "validation", params.validation_cards, seed)
    held_out = validation.question.tolist(), validation.answer.tolist()

    model, tokenizer = load_llm(llm)
    before = np.array(answer_nll(model, tokenizer, *held_out, llm, "validation, base"))
    rows = [training_rows(table, llm.system_prompt) for table in (train, validation)]
    live_folder = PLOTS / "finetune"
    with Live(str(live_folder), dvcyaml=False, save_dvc_exp=False) as live:
        scratch = SCRATCH / "finetune"
        tuned = train_adapter(model, tokenizer, *rows, lora, params, seed, scratch, [Curves(live)])
    after = np.array(answer_nll(tuned, tokenizer, *held_out, llm, "validation, tuned"))
    trainable, total = tuned.get_nb_trainable_parameters()
    if not np.isfinite([before, after]).all():
        raise InputError("the validation loss is not finite: lower finetune.learning_rate")
    bootstrap = Bootstrap(validation.group, seed)
    metrics = {
        "model": llm.model,
        "quantize": llm.quantize,
        "device": device(),
        "dtype": str(compute_dtype()).removeprefix("torch."),
        "train_cards": len(train),
        "trainable_parameters": trainable,
        "trainable_share": trainable / total,
        "validation_nll": {"base": bootstrap.interval(before), "tuned": bootstrap.interval(after)},
        "differences": {"tuned-base": {"validation_nll": bootstrap.interval(after - before)}},
    }
    with atomic(DATA / "adapter") as folder:
        save_adapter(tuned, folder, llm.model)
    plot_losses(live_folder)
    shutil.rmtree(scratch, ignore_errors=True)
    write_json(METRICS / "finetune.json", metrics)


if __name__ == "__main__":
    run("finetune", main)
