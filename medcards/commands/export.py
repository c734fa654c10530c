"""Export the tuned model, merged or as an adapter, the answers of the run, or the rows for other trainers.

    python -m medcards export --to exported/NAME
    python -m medcards export --to exported/NAME --dtype bfloat16
    python -m medcards export --to exported/NAME --adapter
    python -m medcards export --to exported/answers --answers
    python -m medcards export --to exported/rows --rows

The merged model loads with transformers alone:

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("exported/NAME")

Its folder holds safetensors, tokenizer, chat template, generation config, a model card and `parity.json`. The folder
is written only if the merged model, read back from it, has the logits and the greedy answers of the adapter on its
base. With --adapter the folder holds the adapter itself, its tokenizer, its manifest and a model card.

With --answers the folder holds every answer with its scores as `answers.csv` and `answers.parquet`, and the page
`answers.html`, which a browser opens from the disk.

With --rows the folder holds the training and validation rows as conversations, `train.jsonl` and `validation.jsonl`,
and a dataset card. TRL's SFTTrainer reads them.

Nothing is uploaded. The last line printed for a model or for rows is the command that uploads the folder.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

from medcards import InputError
from medcards.commands import add_data, silence_loading

MODES = ("adapter", "answers", "rows")
"""Options that say what is written in place of the merged model."""
FOR_MODELS = ("metrics",)
FOR_MERGED = ("dtype", "questions", "max_logit_difference", "min_agreement")
"""Options of the merged model. One that is not given is None, and :func:`export_merged` has its default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export at FOLDER")
    add_data(parser)
    modes = parser.add_argument_group("what is written (default: the merged model)").add_mutually_exclusive_group()
    modes.add_argument("--adapter", action="store_true", help="the adapter, not merged")
    modes.add_argument("--answers", action="store_true", help="the answers and their scores, as tables and as a page")
    modes.add_argument("--rows", action="store_true", help="the training and validation rows, for other trainers")
    models = parser.add_argument_group("for the merged model and the adapter only")
    models.add_argument(
        "--metrics",
        type=Path,
        metavar="FOLDER",
        help="folder of qa.json, whose scores the model card shows (default metrics)",
    )
    merged = parser.add_argument_group("for the merged model only")
    merged.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights written (default float32)")
    merged.add_argument("--questions", type=int, help="validation questions of the comparison (default 50)")
    merged.add_argument(
        "--max-logit-difference",
        type=float,
        metavar="X",
        help="refuse a larger difference (default 0.001, with bfloat16 2)",
    )
    merged.add_argument(
        "--min-agreement",
        type=float,
        metavar="X",
        help="refuse a smaller token F1 of its answers against the adapter's (default 0.95)",
    )


def run(given: argparse.Namespace) -> Iterator[str]:
    mode = next((name for name in MODES if getattr(given, name)), "")
    _refuse_options_of_other_modes(given, mode)
    yield from {"answers": _export_answers, "rows": _export_rows}.get(mode, _export_model)(given)


def _refuse_options_of_other_modes(given: argparse.Namespace, mode: str) -> None:
    others = FOR_MERGED if mode == "adapter" else FOR_MODELS + FOR_MERGED if mode else ()
    for name in others:
        if getattr(given, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} has no meaning with --{mode}: leave one of them out")


def _export_answers(given: argparse.Namespace) -> Iterator[str]:
    from medcards.report.browse import export_answers

    table = export_answers(given.data, given.to, given.overwrite)
    systems, questions = table.system.nunique(), table.card_id.nunique()
    yield f"{given.to}: {len(table):,} answers of {systems} systems to {questions:,} questions"
    yield f"open {given.to / 'answers.html'} in a browser"


def _export_rows(given: argparse.Namespace) -> Iterator[str]:
    from medcards.llm.conversations import export_rows
    from medcards.report.dataset_card import rows_card

    counts = export_rows(given.data, given.to, rows_card, given.overwrite)
    yield f"{given.to}: {counts['train']:,} training and {counts['validation']:,} validation rows"
    yield f"to publish them, if the licence of the deck allows it: hf upload OWNER/NAME {given.to} --repo-type dataset"


def _export_model(given: argparse.Namespace) -> Iterator[str]:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medcards").setLevel(logging.INFO)
    if given.questions is not None and given.questions < 1:
        raise InputError(f"--questions {given.questions}: the comparison needs at least one")
    if not (given.data / "adapter").exists():
        raise InputError(f"{given.data / 'adapter'} is missing: run `dvc repro finetune`")
    silence_loading()
    from medcards.answers.asker import deck_remark
    from medcards.answers.scores import token_f1
    from medcards.base.exports import check_target
    from medcards.base.files import read_json
    from medcards.llm.merge import export_adapter, export_merged, parity_summary, read_adapter
    from medcards.report.model_card import model_card

    check_target(given.to, given.overwrite)
    manifest, _ = read_adapter(given.data / "adapter")
    qa = (given.metrics or Path("metrics")) / "qa.json"
    scores = read_json(qa) if qa.exists() else None
    card = model_card(manifest, scores, merged=not given.adapter)
    if given.adapter:
        export_adapter(given.data / "adapter", given.to, card, given.overwrite)
        found = [f"{given.to}: the adapter of {manifest['llm']['model']}"]
    else:
        settings = {name: value for name in FOR_MERGED if (value := getattr(given, name)) is not None}
        parity = export_merged(given.data, given.to, card, token_f1, overwrite=given.overwrite, **settings)
        found = parity_summary(parity, given.to)
    if scores is None:
        yield f"{qa} is missing: the model card has no scores of answers"
    if remark := deck_remark(manifest, given.data):
        yield remark
    yield from found
    yield f"to publish it: hf upload OWNER/NAME {given.to}"
