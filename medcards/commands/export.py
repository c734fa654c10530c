"""Export the tuned model, merged or as an adapter.

    python -m medcards export --to exported/NAME
    python -m medcards export --to exported/NAME --dtype bfloat16
    python -m medcards export --to exported/NAME --adapter

The merged model loads with transformers alone:

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("exported/NAME")

Its folder holds safetensors, tokenizer, chat template, generation config, a model card and `parity.json`. The folder
is written only if the merged model, read back from it, has the logits and the greedy answers of the adapter on its
base. With --adapter the folder holds the adapter itself, its tokenizer, its manifest and a model card.

Nothing is uploaded. The last line printed is the command that uploads the folder.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

from medcards import InputError
from medcards.commands import add_data, silence_loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--adapter", action="store_true", help="write the adapter, not merged")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export at FOLDER")
    parser.add_argument(
        "--metrics",
        type=Path,
        default="metrics",
        metavar="FOLDER",
        help="folder of qa.json, whose scores the model card shows (default metrics)",
    )
    add_data(parser)
    merged = parser.add_argument_group("for the merged model only")
    merged.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights written")
    merged.add_argument("--questions", type=int, default=50, help="test questions of the comparison (default 50)")
    merged.add_argument(
        "--max-logit-difference",
        type=float,
        metavar="X",
        help="refuse a larger difference (default 0.001, with bfloat16 2)",
    )
    merged.add_argument(
        "--min-agreement",
        type=float,
        default=0.95,
        metavar="X",
        help="refuse a smaller token F1 of its answers against the adapter's (default 0.95)",
    )


def run(given: argparse.Namespace) -> Iterator[str]:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medcards").setLevel(logging.INFO)
    if given.questions < 1:
        raise InputError(f"--questions {given.questions}: the comparison needs at least one")
    if not (given.data / "adapter").exists():
        raise InputError(f"{given.data / 'adapter'} is missing: run `dvc repro finetune`")
    silence_loading()
    from medcards.answers.asker import deck_remark
    from medcards.answers.scores import token_f1
    from medcards.base.files import read_json
    from medcards.llm.merge import check_target, export_adapter, export_merged, parity_summary, read_adapter
    from medcards.report.model_card import model_card

    check_target(given.to, given.overwrite)
    manifest, _ = read_adapter(given.data / "adapter")
    scores = read_json(given.metrics / "qa.json") if (given.metrics / "qa.json").exists() else None
    card = model_card(manifest, scores, merged=not given.adapter)
    if given.adapter:
        export_adapter(given.data / "adapter", given.to, card, given.overwrite)
        found = [f"{given.to}: the adapter of {manifest['llm']['model']}"]
    else:
        parity = export_merged(
            given.data,
            given.to,
            card,
            token_f1,
            given.dtype,
            given.questions,
            given.max_logit_difference,
            given.min_agreement,
            given.overwrite,
        )
        found = parity_summary(parity, given.to)
    if scores is None:
        yield f"{given.metrics / 'qa.json'} is missing: the model card has no scores of answers"
    if remark := deck_remark(manifest, given.data):
        yield remark
    yield from found
    yield f"to publish it: hf upload OWNER/NAME {given.to}"
