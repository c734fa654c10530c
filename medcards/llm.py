"""The language model: loading (full, int8, nf4), prompts, generation, likelihood."""

import logging
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medcards.files import atomic, sha256_of
from medcards.params import Block
from medcards.references import ReferenceText, cache_folder, reading, resolve

log = logging.getLogger(__name__)

# For a base model that was never taught to chat.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Answer: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


class LlmParams(Block):
    """The language model, see params.yaml."""

    model: ReferenceText
    quantize: Literal["none", "int8", "nf4"]
    system_prompt: str


def device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype() -> torch.dtype:
    """bfloat16 on a GPU that has it, else float32."""
    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def load_llm(params: LlmParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model and its tokenizer, quantised as ``params.quantize`` says.

    ``int8`` is LLM.int8() (Dettmers et al., 2022), ``nf4`` is 4-bit NormalFloat with double quantisation, the base
    of QLoRA (Dettmers et al., 2023); both by bitsandbytes, on a GPU or on the CPU.
    """
    folder = resolve(params.model)
    if folder.suffix == ".gguf":
        folder = plain_copy(folder)
    quantization = None
    if params.quantize == "int8":
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    elif params.quantize == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype(),
        )
    with reading(params.model, "a causal language model"):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute_dtype(),
            quantization_config=quantization,
            device_map={"": device()},
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def plain_copy(gguf: Path) -> Path:
    """A safetensors copy of a GGUF model, written once into the per-user cache.

    transformers de-quantises a GGUF file while it loads it, but will neither save such a model nor quantise it
    again, so its weights move into a model that never knew of the file.
    """
    target = cache_folder() / "plain" / f"{gguf.stem}-{sha256_of(gguf)[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            log.info("de-quantising %s once", gguf.name)
            source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            config = source.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.load_state_dict(source.state_dict())
            with atomic(target) as folder:
                model.save_pretrained(folder)
                AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return target


def prompt(question: str, system_prompt: str) -> list[dict[str, str]]:
    """The messages that ask a question; training and evaluation both start from here."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": question}]


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    params: LlmParams,
    max_new_tokens: int,
    batch_size: int,
    label: str = "generate",
) -> list[str]:
    """Answer questions greedily, closed book.

    Returns
    -------
    answers, in the order of the questions, special tokens and outer white space removed.
    """
    prompts = [prompt_ids(tokenizer, question, params.system_prompt) for question in questions]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))  # little padding
    answers = [""] * len(questions)
    model.eval()
    for start in tqdm(range(0, len(order), batch_size), desc=label):
        rows = order[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [prompts[i] for i in rows]}, padding_side="left", return_tensors="pt")
        batch = batch.to(model.device)
        with torch.inference_mode():
            made = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
            )
        made = made[:, batch["input_ids"].shape[1] :]
        for i, text in zip(rows, tokenizer.batch_decode(made, skip_special_tokens=True), strict=True):
            answers[i] = text.strip()
    return answers


def answer_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[str],
    answers: list[str],
    params: LlmParams,
    label: str = "likelihood",
) -> list[float]:
    """Mean negative log-likelihood of each reference answer, in nats per token, given its question.

    The tokens are those that training's completion-only loss counts: the assistant's turn with its end.
    """
    losses = []
    model.eval()
    for question, answer in tqdm(list(zip(questions, answers, strict=True)), desc=label):
        head = prompt_ids(tokenizer, question, params.system_prompt)
        messages = [*prompt(question, params.system_prompt), {"role": "assistant", "content": answer}]
        whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        ids = torch.tensor([whole], device=model.device)
        labels = ids.clone()
        labels[:, : len(head)] = -100
        with torch.inference_mode():
            losses.append(float(model(input_ids=ids, labels=labels).loss))
    return losses


def prompt_ids(tokenizer: PreTrainedTokenizerBase, question: str, system_prompt: str) -> list[int]:
    """The token ids that a question is asked with, the start of the assistant's turn included."""
    messages = prompt(question, system_prompt)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]
