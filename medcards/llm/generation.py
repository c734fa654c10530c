"""A language model's answers, and its likelihood of the reference answers."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medcards import InputError
from medcards.base.files import atomic
from medcards.llm.prompts import answer_ids, prompt_ids


@dataclass(frozen=True)
class Generated:
    """An answer of a model.

    ``tokens`` counts the generated tokens, the end token included. ``truncated`` tells whether the answer reached the
    limit before its end.
    """

    text: str
    tokens: int
    truncated: bool


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    system_prompt: str,
    max_new_tokens: int,
    batch_size: int,
    label: str = "generate",
    context: list[list[str]] | None = None,
    partial: Path | None = None,
) -> list[Generated]:
    """Answer questions greedily.

    Parameters
    ----------
    max_new_tokens : tokens of an answer, at most.
    batch_size : questions at a time.
    label : name of the progress bar.
    context : for each question, the texts that the model reads before it; none by default.
    partial : folder that keeps the answers by batch, so that a later call with the same inputs generates
        nothing. A folder belongs to one model: its weights, its dtype and its device.

    Returns
    -------
    answers in the order of the questions, without special tokens and without white space at their ends.
    """
    context = context or [[]] * len(questions)
    prompts = [
        prompt_ids(tokenizer, question, system_prompt, texts)
        for question, texts in zip(questions, context, strict=True)
    ]
    made: dict[int, Generated] = {}
    model.eval()
    for rows in tqdm(list(_batches(prompts, batch_size)), desc=label):
        asked = [prompts[row] for row in rows]
        inputs = model, tokenizer, asked, max_new_tokens
        answers = _kept(partial, ["generate", asked, max_new_tokens], _generate_batch, *inputs)
        made |= {row: Generated(**answer) for row, answer in zip(rows, answers, strict=True)}
    return [made[row] for row in range(len(prompts))]


def answer_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    answers: list[str],
    system_prompt: str,
    batch_size: int,
    label: str = "likelihood",
    context: list[list[str]] | None = None,
    partial: Path | None = None,
) -> list[float]:
    """Mean negative log-likelihood of each reference answer, in nats per token, given its question.

    The mean is over the tokens that the training loss counts: the assistant's turn with its end.

    Parameters
    ----------
    batch_size : answers at a time.
    label, context : see :func:`generate`.
    partial : folder that keeps the likelihoods by batch, see :func:`generate`. Both functions may share a folder.

    Raises
    ------
    InputError : a likelihood is not finite.
    """
    context = context or [[]] * len(questions)
    rows = []
    for question, answer, texts in zip(questions, answers, context, strict=True):
        head = prompt_ids(tokenizer, question, system_prompt, texts)
        rows.append((head, answer_ids(tokenizer, question, answer, system_prompt)))
    losses: dict[int, float] = {}
    model.eval()
    for places in tqdm(list(_batches([head + tail for head, tail in rows], batch_size)), desc=label):
        batch = [rows[place] for place in places]
        names = [questions[place] for place in places]
        losses |= zip(
            places, _kept(partial, ["nll", batch], _nll_of_batch, model, tokenizer, batch, names), strict=True
        )
    return [losses[place] for place in range(len(rows))]


def _kept(folder: Path | None, inputs: list, compute: Callable[..., list], *arguments: object) -> list:
    """The result of ``compute(*arguments)``, or the one that ``folder`` keeps for these inputs.

    The result is kept as JSON without rounding, so that a kept number equals the computed one.
    """
    if folder is None:
        return compute(*arguments)
    file = folder / f"{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not computed yet, or damaged
        made = compute(*arguments)
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(made), encoding="utf-8")
    return made


def _batches(prompts: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    """Row numbers in batches of prompts of similar lengths, which need little padding."""
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _generate_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], max_new_tokens: int
) -> list[dict]:
    """The fields of :class:`Generated` for each prompt."""
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        whole = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
    made = whole[:, batch["input_ids"].shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    answers = []
    for ids in made:
        end = next((place for place, token in enumerate(ids, start=1) if token in ends), None)
        text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        answers.append({"text": text, "tokens": end or len(ids), "truncated": end is None})
    return answers


def _nll_of_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[tuple[list[int], list[int]]],
    questions: list[str],
) -> list[float]:
    """Mean negative log-likelihoods of answers; ``rows`` holds the token ids of each prompt and of its answer."""
    whole = [head + tail for head, tail in rows]
    batch = tokenizer.pad({"input_ids": whole}, padding_side="right", return_tensors="pt").to(model.device)
    longest = batch["input_ids"].shape[1]
    keep = longest + 1 - min(len(head) for head, _ in rows)  # logits of whole prompts would fill the memory
    with torch.inference_mode():
        logits = model(**batch, logits_to_keep=keep).logits
    losses = []
    for line, (head, tail) in enumerate(rows):
        first = len(head) - 1 - (longest - logits.shape[1])
        predicted = logits[line, first : first + len(tail)].float()
        losses.append(float(cross_entropy(predicted, torch.tensor(tail, device=predicted.device))))
        if not math.isfinite(losses[-1]):
            raise InputError(f"the model gives no finite likelihood to the answer of '{questions[line][:80]}'")
    return losses
