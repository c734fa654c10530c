"""Export an adapter: merged into its base, or as it is.

A merged model is written only after a comparison shows that it answers as the adapter on its base does.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel
from pydantic import ValidationError
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from medcards import InputError
from medcards.base.exports import check_target
from medcards.base.files import atomic, read_json, write_json
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.llm.generation import generate
from medcards.llm.loading import LlmParams, check_whole, device, load_tuned
from medcards.llm.prompts import answer_ids, prompt_ids

# Measured on untrained models of 2 to 30 layers whose logits reach 0.8 to 8. In float32, a correct merge changes a
# logit by at most 1e-4, an update scaled by 0.99 by at least 0.008, and no merge by at least 0.6. Rounding to bfloat16
# changes a logit by up to 1.8, which hides faults, so every merge is checked in float32 first.
LOGIT_BOUNDS = {"float32": 0.001, "bfloat16": 2.0}
AGREEMENT = 0.95
MAX_NEW_TOKENS, TOKENS_AT_A_TIME = 48, 4096


def export_merged(
    data: str | Path,
    to: str | Path,
    card: str,
    f1: Callable[[str, str], float],
    dtype: str = "float32",
    questions: int = 50,
    max_logit_difference: float | None = None,
    min_agreement: float = AGREEMENT,
    overwrite: bool = False,
) -> dict:
    """Merge the adapter in ``data/adapter`` into its base, not quantised, and write a plain model folder.

    The folder gets its name only after the model was read back from it and compared with the adapter on its base. The
    comparison is written to ``parity.json`` in the folder. The logits of the adapter stay in memory until the merged
    model is compared: questions x answer tokens x vocabulary floats.

    Parameters
    ----------
    card : the model card, which becomes README.md.
    f1 : the token F1 of an answer against a reference.
    dtype : ``float32`` or ``bfloat16``, of the weights that are written. The adapter is merged, and the merge checked,
        in float32. Weights in bfloat16 are then compared once more.
    questions : the largest number of validation questions to compare.
    max_logit_difference : the bound; by default that of ``dtype`` in :data:`LOGIT_BOUNDS`.
    min_agreement : the smallest token F1 of the merged model's greedy answers against those of the adapter.

    Returns
    -------
    parity : the contents of ``parity.json``.

    Raises
    ------
    InputError : adapter, base or cards are missing or damaged, the target exists, or the merged model differs.
    """
    to = Path(to)
    check_target(to, overwrite)
    manifest, llm = read_adapter(Path(data) / "adapter")
    deck = card_tables.load_cards(Path(data) / "cards")
    cards = card_tables.sample(deck, "validation", questions, manifest["seed"], "own")
    if cards.empty:
        raise InputError(f"{Path(data) / 'cards'} has no validation question to compare the models on")
    bound = LOGIT_BOUNDS[dtype] if max_logit_difference is None else max_logit_difference
    tuned, tokenizer = load_tuned(llm, Path(data) / "adapter")
    if getattr(tuned.get_base_model().config, "quantization_config", None) is not None:
        raise InputError(f"{llm.model} is stored quantised, so an adapter cannot be merged into it: tune a plain base")
    answers = greedy_answers(tuned, tokenizer, cards, llm, "adapter")
    logits = list(answer_logits(tuned, tokenizer, cards, llm, "adapter"))
    with atomic(to) as folder:
        save_merged(tuned, tokenizer, folder)
        del tuned
        parity = compare_merged(folder, answers, logits, cards, llm, f1, manifest["seed"])
        if dtype == "bfloat16":
            check_parity(parity, "float32", LOGIT_BOUNDS["float32"], AGREEMENT)
            before = {"before_rounding": parity}
            round_weights(folder)
            parity = compare_merged(folder, answers, logits, cards, llm, f1, manifest["seed"]) | before
        check_parity(parity, dtype, bound, min_agreement)
        parity |= {"max_logit_difference": bound, "min_agreement": min_agreement, "max_new_tokens": MAX_NEW_TOKENS}
        parity |= {"n": len(cards), "dtype": dtype, "tuned_on": manifest["llm"]["quantize"]}
        write_json(folder / "parity.json", parity)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return parity


def export_adapter(adapter: str | Path, to: str | Path, card: str, overwrite: bool = False) -> None:
    """Copy an adapter, not merged, with its tokenizer, its manifest and a model card.

    Parameters
    ----------
    card : the model card, which becomes README.md.

    Raises
    ------
    InputError : a file of the adapter is missing or damaged, or the target exists.
    """
    adapter, to = Path(adapter), Path(to)
    check_target(to, overwrite)
    read_adapter(adapter)
    check_whole(adapter)
    with atomic(to) as folder:
        shutil.copytree(adapter, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")


def read_adapter(folder: Path) -> tuple[dict, LlmParams]:
    """Read the manifest of an adapter.

    Returns
    -------
    manifest : as the finetune stage writes it.
    llm : the base to merge into: not quantised, in float32, on a GPU where there is one.

    Raises
    ------
    InputError : a file of the adapter is missing, or its manifest has another format.
    """
    for name in ("manifest.json", "adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).exists():
            raise InputError(f"{folder / name} is missing: run `dvc repro finetune`")
    manifest = read_json(folder / "manifest.json")
    plain = {"quantize": "none", "device": "auto", "dtype": "float32", "attention": "auto"}
    try:
        return manifest, LlmParams(**(manifest["llm"] | plain))
    except (KeyError, TypeError, ValidationError):
        raise InputError(f"{folder / 'manifest.json'} is damaged: run `dvc repro -f finetune`") from None


def save_merged(tuned: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Merge the adapter into its base and write the model as safetensors with its tokenizer.

    ``tuned`` cannot be used afterwards. Its generation config is written as well.
    """
    _save(tuned.merge_and_unload(), folder)
    tokenizer.save_pretrained(folder)


def round_weights(folder: Path) -> None:
    """Round the weights of the model in ``folder`` to bfloat16."""
    _save(AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(torch.bfloat16), folder)


def _save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # safetensors writes files that only their owner can read
        file.chmod((folder / "config.json").stat().st_mode)


def greedy_answers(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    llm: LlmParams,
    label: str,
) -> list[str]:
    """The model's greedy answers to the cards' questions."""
    sizes = MAX_NEW_TOKENS, TOKENS_AT_A_TIME
    made = generate(model, tokenizer, cards.question.tolist(), llm.system_prompt, *sizes, f"{label}: answers")
    return [answer.text for answer in made]


def answer_logits(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    llm: LlmParams,
    label: str,
) -> Iterator[torch.Tensor]:
    """The logits that predict each card's answer: one (tokens, vocabulary) tensor per card, float32, on the CPU."""
    model.eval()
    for card in tqdm(list(cards.itertuples()), desc=f"{label}: logits"):
        head = prompt_ids(tokenizer, card.question, llm.system_prompt)
        ids = head + answer_ids(tokenizer, card.question, card.answer, llm.system_prompt)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
        yield logits[len(head) - 1 : -1].float().cpu()


def compare_merged(
    folder: Path,
    answers: list[str],
    logits: list[torch.Tensor],
    cards: pd.DataFrame,
    llm: LlmParams,
    f1: Callable[[str, str], float],
    seed: int,
) -> dict:
    """Compare the model in ``folder``, read with transformers alone, with the adapter on its base.

    Parameters
    ----------
    answers, logits : of the adapter on its base, see :func:`greedy_answers` and :func:`answer_logits`.

    Returns
    -------
    parity : the largest absolute difference of a logit, the token F1 of the merged model's answers against the
        adapter's, and the token F1 of both against the reference answers.
    """
    merged = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(device(llm))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    again = answer_logits(merged, tokenizer, cards, llm, "merged")
    largest = torch.stack([_largest_difference(*pair) for pair in zip(logits, again, strict=True)]).max()
    given = greedy_answers(merged, tokenizer, cards, llm, "merged")
    scores = {
        name: pd.Series(map(f1, texts, cards.answer)) for name, texts in (("adapter", answers), ("merged", given))
    }
    bootstrap = Bootstrap(cards.group, seed)
    return {
        "largest_logit_difference": float(largest),
        "agreement": {"token_f1": bootstrap.interval(list(map(f1, given, answers)))},
        **{name: {"token_f1": bootstrap.interval(values)} for name, values in scores.items()},
        "differences": {"merged-adapter": {"token_f1": bootstrap.interval(scores["merged"] - scores["adapter"])}},
    }


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The largest difference of two tables of logits; infinite where two tokenizers give one text different tokens."""
    return (a - b).abs().max() if a.shape == b.shape else torch.tensor(torch.inf)


def check_parity(parity: dict, dtype: str, max_logit_difference: float, min_agreement: float) -> None:
    """InputError if the merged model differs from the adapter on its base by more than the bounds."""
    logits, agreement = parity["largest_logit_difference"], parity["agreement"]["token_f1"]["mean"]
    if not (logits <= max_logit_difference and agreement >= min_agreement):  # a NaN is refused too
        way_out = "; take --dtype float32, or allow it with --max-logit-difference and --min-agreement"
        raise InputError(
            f"the merged model in {dtype} differs from the adapter on its base: largest logit difference {logits:.3g} "
            f"(bound {max_logit_difference:g}), token F1 of its answers against the adapter's {agreement:.3f} "
            f"(bound {min_agreement:g}); nothing was written{way_out if dtype == 'bfloat16' else ''}"
        )


def parity_summary(parity: dict, to: Path) -> list[str]:
    """The comparison of :func:`export_merged` as lines for a reader."""
    agreement, f1 = parity["agreement"]["token_f1"], {name: parity[name]["token_f1"] for name in ("adapter", "merged")}
    lines = [
        f"{to}: a plain {parity['dtype']} model, compared with the adapter on {parity['n']} validation questions",
        f"largest logit difference: {parity['largest_logit_difference']:.3g}",
        f"token F1 of its answers against the adapter's: {agreement['mean']:.3f}",
        "token F1 against the reference: "
        + ", ".join(f"{name} {score['mean']:.3f} [{score['lo']:.3f}, {score['hi']:.3f}]" for name, score in f1.items()),
    ]
    if parity["tuned_on"] != "none":
        lines.append(f"the adapter was tuned on an {parity['tuned_on']} base; the comparison uses the plain base")
    return lines
