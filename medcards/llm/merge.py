"""How an adapter becomes a plain model, and the proof that the plain model answers as the adapter did."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from jinja2 import TemplateError
from peft import PeftModel
from pydantic import ValidationError
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from medcards import InputError
from medcards.answers.scores import token_f1
from medcards.base.files import atomic, read_json, write_json
from medcards.base.stats import Bootstrap
from medcards.deck import cards as card_tables
from medcards.llm.generation import generate
from medcards.llm.loading import LlmParams, device, load_llm
from medcards.llm.prompts import answer_ids, prompt_ids
from medcards.report.model_card import adapter_card

# Measured on untrained models of 2 to 30 layers whose logits reach 0.8 to 8: a right merge moved them by at most 1e-4
# in float32, an update scaled by 0.99 by at least 0.008, no merge by at least 0.6. Rounding to bfloat16 moved them by
# up to 1.8, which hides faults, so a merge is always proven in float32 first.
LOGIT_BOUNDS = {"float32": 0.001, "bfloat16": 2.0}
AGREEMENT = 0.95
MAX_NEW_TOKENS, BATCH_SIZE = 48, 16
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")


def export(
    data: str | Path,
    to: str | Path,
    qa: dict | None = None,
    dtype: str = "float32",
    questions: int = 50,
    max_logit_difference: float | None = None,
    min_agreement: float = AGREEMENT,
    overwrite: bool = False,
) -> dict:
    """Merge the adapter in ``data/adapter`` into its base, not quantised, and write a plain model folder.

    The folder gets its name only after the model was read back from it and found to do what the adapter on its base
    does; what was found is in its ``parity.json``. The logits of the one are held in memory while the other is asked:
    questions x answer tokens x vocabulary floats.

    Parameters
    ----------
    qa : scores of the evaluate stage, for the model card.
    dtype : ``float32`` or ``bfloat16``, of the weights that are written. The adapter is merged, and the merge proven,
        in float32; weights in bfloat16 are then compared once more.
    questions : of the test split, at most, that both are compared on.
    max_logit_difference : the bound; by default that of ``dtype`` in :data:`LOGIT_BOUNDS`.
    min_agreement : the least token F1 of the merged model's greedy answers against those of the adapter on its base.

    Returns
    -------
    what ``parity.json`` holds.

    Raises
    ------
    InputError : adapter, base or cards are missing or damaged, the target exists, or the merged model differs.
    """
    to = Path(to)
    check_target(to, overwrite)
    manifest, llm = read_adapter(Path(data) / "adapter")
    cards = card_tables.sample(card_tables.load(Path(data) / "cards"), "test", questions, manifest["seed"], "own")
    if cards.empty:
        raise InputError(f"{Path(data) / 'cards'} has no test question to compare the models on")
    card = card_of(manifest, qa)
    bound = LOGIT_BOUNDS[dtype] if max_logit_difference is None else max_logit_difference
    tuned, tokenizer = load_tuned(llm, Path(data) / "adapter")
    answers = answer(tuned, tokenizer, cards, llm, "adapter")
    logits = list(answer_logits(tuned, tokenizer, cards, llm, "adapter"))
    with atomic(to) as folder:
        save_merged(tuned, tokenizer, folder)
        del tuned
        parity = compare(folder, answers, logits, cards, llm, manifest["seed"])
        if dtype == "bfloat16":
            check_parity(parity, "float32", LOGIT_BOUNDS["float32"], AGREEMENT)
            before = {"before_rounding": parity}
            round_weights(folder)
            parity = compare(folder, answers, logits, cards, llm, manifest["seed"]) | before
        check_parity(parity, dtype, bound, min_agreement)
        parity |= {"max_logit_difference": bound, "min_agreement": min_agreement, "max_new_tokens": MAX_NEW_TOKENS}
        parity |= {"n": len(cards), "dtype": dtype, "tuned_on": manifest["llm"]["quantize"]}
        write_json(folder / "parity.json", parity)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return parity


def check_target(to: Path, overwrite: bool) -> None:
    """InputError if there is something at ``to`` that must not be replaced; only an earlier export ever is."""
    if not to.exists():
        return
    if not overwrite:
        raise InputError(f"{to} exists: choose another name, or replace it with --overwrite")
    if not (to / "parity.json").exists():
        raise InputError(f"{to} is no exported model and is not replaced: choose another name")


def read_adapter(folder: Path) -> tuple[dict, LlmParams]:
    """The adapter's manifest, and its base as it is merged into: not quantised, in float32, on what device there is.

    Raises
    ------
    InputError : a file of the adapter is missing, or its manifest is not of this version.
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


def card_of(manifest: dict, qa: dict | None) -> str:
    """The merged model's card; InputError if the manifest or the scores lack what it tells."""
    try:
        return adapter_card(manifest, qa, merged=True)
    except (KeyError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise InputError(
            f"the model card cannot be written: the adapter's manifest or qa.json is of another version "
            f"({type(error).__name__}: {error}); run `dvc repro`"
        ) from error


def load_tuned(llm: LlmParams, adapter: Path) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The base with the adapter on it, and its tokenizer.

    Raises
    ------
    InputError : one of them cannot be read, they do not fit, or the base is stored quantised.
    """
    base, tokenizer = load_llm(llm)
    if getattr(base.config, "quantization_config", None) is not None:
        raise InputError(f"{llm.model} is stored quantised, so nothing can be merged into it; tune a plain base")
    try:
        return PeftModel.from_pretrained(base, adapter), tokenizer
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{adapter} does not fit its base, or is damaged ({reason}): run `dvc repro -f finetune`"
        ) from error


def save_merged(tuned: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Merge the adapter into its base, which is used up, and write the model as safetensors with its tokenizer.

    The generation config is the base's without sampling: what was scored were greedy answers.
    """
    merged = tuned.merge_and_unload()
    merged.generation_config.do_sample = False
    for name in _SAMPLING:
        setattr(merged.generation_config, name, None)
    _save(merged, folder)
    tokenizer.save_pretrained(folder)


def round_weights(folder: Path) -> None:
    """Round the weights of the model in ``folder`` to bfloat16."""
    _save(AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(torch.bfloat16), folder)


def _save(model: PreTrainedModel, folder: Path) -> None:
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # which come readable for their owner alone
        file.chmod((folder / "config.json").stat().st_mode)


def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    llm: LlmParams,
    label: str,
) -> list[str]:
    """The model's greedy answers to the cards' questions."""
    sizes = MAX_NEW_TOKENS, BATCH_SIZE
    made = generate(model, tokenizer, cards.question.tolist(), llm.system_prompt, *sizes, f"{label}: answers")
    return [answer.text for answer in made]


def answer_logits(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    cards: pd.DataFrame,
    llm: LlmParams,
    label: str,
) -> Iterator[torch.Tensor]:
    """For each card the logits that predict its answer's tokens, (tokens, vocabulary), float32, on the CPU."""
    model.eval()
    for card in tqdm(list(cards.itertuples()), desc=f"{label}: logits"):
        head = prompt_ids(tokenizer, card.question, llm.system_prompt)
        ids = head + answer_ids(tokenizer, card.question, card.answer, llm.system_prompt)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
        yield logits[len(head) - 1 : -1].float().cpu()


def compare(
    folder: Path, answers: list[str], logits: list[torch.Tensor], cards: pd.DataFrame, llm: LlmParams, seed: int
) -> dict:
    """What the model in ``folder``, read as a stranger would read it, does otherwise than the adapter on its base.

    Parameters
    ----------
    answers, logits : of the adapter on its base, see :func:`answer` and :func:`answer_logits`.

    Returns
    -------
    the largest absolute difference of a logit, the token F1 of the merged model's answers against the adapter's, and
    that of both against the reference answers.
    """
    merged = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).to(device(llm))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    again = answer_logits(merged, tokenizer, cards, llm, "merged")
    largest = torch.stack([_largest_difference(*pair) for pair in zip(logits, again, strict=True)]).max()
    given = answer(merged, tokenizer, cards, llm, "merged")
    scores = {
        name: pd.Series(map(token_f1, texts, cards.answer)) for name, texts in (("adapter", answers), ("merged", given))
    }
    bootstrap = Bootstrap(cards.group, seed)
    return {
        "largest_logit_difference": float(largest),
        "agreement": {"token_f1": bootstrap.interval(list(map(token_f1, given, answers)))},
        **{name: {"token_f1": bootstrap.interval(values)} for name, values in scores.items()},
        "differences": {"merged-adapter": {"token_f1": bootstrap.interval(scores["merged"] - scores["adapter"])}},
    }


def _largest_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two tables of logits; infinite where the tokenizers cut the same text otherwise."""
    return (a - b).abs().max() if a.shape == b.shape else torch.tensor(torch.inf)


def check_parity(parity: dict, dtype: str, max_logit_difference: float, min_agreement: float) -> None:
    """InputError if the merged model is not what it was merged from."""
    logits, agreement = parity["largest_logit_difference"], parity["agreement"]["token_f1"]["mean"]
    if not (logits <= max_logit_difference and agreement >= min_agreement):  # a NaN is refused too
        way_out = "; take --dtype float32, or allow it with --max-logit-difference and --min-agreement"
        raise InputError(
            f"the merged model in {dtype} differs from the adapter on its base: largest logit difference {logits:.3g} "
            f"(bound {max_logit_difference:g}), token F1 of its answers against the adapter's {agreement:.3f} "
            f"(bound {min_agreement:g}); nothing was written{way_out if dtype == 'bfloat16' else ''}"
        )
