"""Make a plain model of the adapter that `dvc repro` tuned: merged into its base, loaded without PEFT.

    python -m medcards.commands.export --to exported/NAME
    python -m medcards.commands.export --to exported/NAME --dtype bfloat16

The folder holds safetensors, tokenizer, chat template, generation config, a model card and `parity.json`. It is
written only if the merged model, read back from it, has the logits and the greedy answers of the adapter on its base.
Then, from Python:

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("exported/NAME")

Nothing is pushed; the last line printed says how to.
"""

import argparse
import logging
import sys
from pathlib import Path

from medcards import InputError
from medcards.base.files import read_json


def summary(parity: dict, to: Path) -> str:
    """What was found, and what to do with the folder, for a reader."""
    agreement, f1 = parity["agreement"]["token_f1"], {name: parity[name]["token_f1"] for name in ("adapter", "merged")}
    lines = [
        f"{to}: a plain {parity['dtype']} model, compared on {parity['n']} test questions with the adapter on its base",
        f"largest logit difference {parity['largest_logit_difference']:.3g}",
        f"token F1 of its answers against the adapter's {agreement['mean']:.3f}; against the reference "
        + ", ".join(f"{name} {score['mean']:.3f} [{score['lo']:.3f}, {score['hi']:.3f}]" for name, score in f1.items()),
    ]
    if parity["tuned_on"] != "none":
        lines.append(f"it was tuned on an {parity['tuned_on']} base; compared was the base that is not quantised")
    return "\n".join([*lines, f"to push it: hf upload OWNER/NAME {to}"])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.commands.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--to", type=Path, required=True, help="the folder to write, such as exported/NAME")
    parser.add_argument("--data", type=Path, default="data", help="the folder that the pipeline wrote (default data)")
    parser.add_argument(
        "--metrics", type=Path, default="metrics", help="whose qa.json goes into the model card (default metrics)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights written")
    parser.add_argument("--questions", type=int, default=50, help="compared on so many test questions (default 50)")
    parser.add_argument(
        "--max-logit-difference", type=float, metavar="X", help="refuse beyond it (default 0.001, of bfloat16 2)"
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        default=0.95,
        metavar="X",
        help="refuse below this token F1 of the answers against the adapter's (default 0.95)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an exported model of that name")
    return parser


def main() -> None:
    given = arguments().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medcards").setLevel(logging.INFO)
    try:
        if given.questions < 1:
            raise InputError(f"--questions {given.questions}: at least one is needed to compare the models")
        if not (given.data / "adapter").exists():
            raise InputError(f"{given.data / 'adapter'} is missing: run `dvc repro finetune`")
        from medcards.llm.merge import check_target, export  # seconds of imports, which --help does without

        check_target(given.to, given.overwrite)
        qa = read_json(given.metrics / "qa.json") if (given.metrics / "qa.json").exists() else None
        parity = export(
            given.data,
            given.to,
            qa,
            given.dtype,
            given.questions,
            given.max_logit_difference,
            given.min_agreement,
            given.overwrite,
        )
    except InputError as error:
        sys.exit(f"export: {error}")
    if qa is None:
        print(f"{given.metrics / 'qa.json'} is missing: the model card has no scores of answers")
    print(summary(parity, given.to))


if __name__ == "__main__":
    main()
