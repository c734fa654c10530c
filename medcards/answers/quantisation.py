"""The tuned model on bases of different precision: full, int8, NF4."""

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from peft import PeftModel

from medcards.answers.records import AnswerParams, Answers
from medcards.base.params import Block
from medcards.llm.generation import answer_nll, generate
from medcards.llm.loading import LlmParams, load_tuned


class QuantiseEvalParams(Block):
    """The bases that are compared, see params.yaml."""

    bases: list[Literal["none", "int8", "nf4"]]


@dataclass
class BaseResult:
    """The tuned model's answers on one base.

    Attributes
    ----------
    answers : its answers, closed book, and the likelihoods of the references.
    base_bytes : size of the base's weights.
    tokens_per_second : generated tokens per second.
    """

    answers: Answers
    base_bytes: int
    tokens_per_second: float


def answer_on_base(questions: pd.DataFrame, llm: LlmParams, adapter: Path, params: AnswerParams) -> BaseResult:
    """Let the tuned model answer the questions on one base, closed book.

    Parameters
    ----------
    questions : table with ``question`` and ``answer``.
    llm : the base; ``llm.quantize`` is its precision.
    """
    model, tokenizer = load_tuned(llm, adapter)
    size = base_bytes(model)
    asked, references = questions.question.tolist(), questions.answer.tolist()
    started = time.perf_counter()
    sizes = params.max_new_tokens, params.batch_size
    made = generate(model, tokenizer, asked, llm.system_prompt, *sizes, f"{llm.quantize}: answers")
    speed = sum(answer.tokens for answer in made) / (time.perf_counter() - started)
    label = f"{llm.quantize}: likelihood"
    nll = answer_nll(model, tokenizer, asked, references, llm.system_prompt, params.batch_size, label)
    del model
    gc.collect()  # the next base needs the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    answers = Answers([answer.text for answer in made], truncated=[answer.truncated for answer in made], nll=nll)
    return BaseResult(answers, size, speed)


def base_bytes(tuned: PeftModel) -> int:
    """Bytes of the base's weights and buffers, without the adapter's weights."""
    adapter = sum(weight.nbytes for name, weight in tuned.named_parameters() if tuned.base_model.prefix in name)
    return tuned.get_memory_footprint() - adapter
