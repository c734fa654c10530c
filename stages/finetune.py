"""finetune: train a LoRA adapter on the training rows (QLoRA where the base is quantised).

reads   data/rows, data/models/llm.json
writes  data/adapter, data/curves, data/figures/finetune

A run that was killed resumes from its last checkpoint when it is started again with the same inputs. While it trains,
another terminal draws the curves:

    dvc plots show data/curves/plots/metrics -x step
"""

from contextlib import nullcontext
from importlib import metadata

import pandas as pd
from dvclive import Live

from medcards.base.files import atomic, read_json, write_json
from medcards.base.manifests import model_fingerprint, pinned_model
from medcards.base.params import Seed
from medcards.base.scratch import PROCESSES, RANK, scratch
from medcards.llm.curves import Curves, curve_ends, training_speed
from medcards.llm.loading import LlmParams, compute_dtype, device_name, load_tokenizer
from medcards.llm.lora import LoraParams, describe_adapter, save_adapter
from medcards.llm.tokenise import training_rows
from medcards.llm.training import FinetuneParams, train_adapter
from stages import DATA, figures, load_params, run

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")


def main() -> dict | None:
    seed, llm, lora, params = load_params(seed=Seed, llm=LlmParams, lora=LoraParams, finetune=FinetuneParams)
    llm = llm.model_copy(update={"model": pinned_model(DATA, "llm")})
    blocks = {"seed": seed, "llm": llm.model_dump(), "lora": lora.model_dump(), "finetune": params.model_dump()}
    machine = {"device": device_name(llm), "processes": PROCESSES}
    train, validation = (pd.read_parquet(DATA / "rows" / f"{split}.parquet") for split in ("train", "validation"))
    tokenizer = load_tokenizer(llm)
    read = train.context, train.cited
    rows, counts = training_rows(tokenizer, train, llm.system_prompt, params.max_length, *read)
    held_out, held_out_counts = training_rows(tokenizer, validation, llm.system_prompt, params.max_length)

    inputs = {"base": model_fingerprint(DATA, "llm"), "rows": rows.to_list(), "held_out": held_out.to_list()}
    curves = Live(str(DATA / "curves"), dvcyaml=False, save_dvc_exp=False) if RANK == 0 else nullcontext()
    with scratch("finetune", **blocks, **inputs, **machine) as folder, curves as live:
        done = train_adapter(llm, tokenizer, rows, held_out, lora, params, seed, folder, [Curves(live)], PROCESSES)
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
            "curve": curve_ends(done.log),
        }
        packages = {name: metadata.version(name) for name in PACKAGES}
        material = read_json(DATA / "rows" / "manifest.json")["material"]
        manifest = {**blocks, "metrics": metrics, "packages": packages, "material": material}
        with atomic(DATA / "adapter") as adapter:
            save_adapter(done.best, adapter, llm.model, tokenizer, done.generation)
            likelihood = pd.DataFrame({"group": validation.group.iloc[held_out["card"]].tolist(), **done.nll})
            describe_adapter(adapter, manifest | {"validation": likelihood.to_dict("list")})
            with figures("finetune") as shown:
                write_json(shown / "metrics.json", metrics)
                likelihood.to_parquet(shown / "validation.parquet", index=False)
    return training_speed(done.log)


if __name__ == "__main__":
    run("finetune", main)
