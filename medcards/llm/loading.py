"""The language model and how it is loaded: full, int8, nf4."""

import logging
import os
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medcards import InputError
from medcards.base.files import atomic, sha256_of
from medcards.base.params import Block
from medcards.base.references import ReferenceText, cache_folder, reading, resolve
from medcards.llm.prompts import PLAIN_TEMPLATE

log = logging.getLogger(__name__)


class LlmParams(Block):
    """The language model, see params.yaml."""

    model: ReferenceText
    quantize: Literal["none", "int8", "nf4"]
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16"]
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"]
    system_prompt: str


def device(params: LlmParams) -> str:
    """``cuda`` where there is a GPU, else ``cpu``, unless ``params.device`` or the launcher's ``use_cpu`` says so."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return "cpu"
    if params.device == "cuda" and not torch.cuda.is_available():
        raise InputError("llm.device=cuda: PyTorch finds no GPU on this machine; take auto or cpu")
    if params.device != "auto":
        return params.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype(params: LlmParams) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, else float32, unless ``params.dtype`` says which."""
    if params.dtype != "auto":
        return getattr(torch, params.dtype)
    has_it = device(params) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_it else torch.float32


def load_llm(params: LlmParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model and its tokenizer, quantised as ``params.quantize`` says.

    ``int8`` is LLM.int8() (Dettmers et al., 2022), ``nf4`` is 4-bit NormalFloat with double quantisation, the base
    of QLoRA (Dettmers et al., 2023); both by bitsandbytes, on a GPU or on the CPU. Where one process trains on each
    GPU, every process loads to its own; where FSDP shards the model, to the CPU (a quantised base to every GPU, whole).

    Raises
    ------
    InputError : the reference is no language model, or the machine lacks what a parameter asks for.
    """
    folder = _model_folder(params)
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    quantization = None
    if params.quantize == "int8":
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    elif params.quantize == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype(params),
            bnb_4bit_quant_storage=compute_dtype(params) if sharded else torch.uint8,  # FSDP shards one dtype only
        )
    with reading(params.model, "a causal language model"):
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=compute_dtype(params),
                quantization_config=quantization,
                device_map=None if sharded else {"": gpu if device(params) == "cuda" else "cpu"},
                attn_implementation=None if params.attention == "auto" else params.attention,
                local_files_only=True,
            )
        except ImportError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"llm.attention={params.attention}, llm.quantize={params.quantize}: {reason}") from error
    tokenizer = load_tokenizer(params)
    if len(tokenizer) > (known := model.get_input_embeddings().num_embeddings):
        raise InputError(f"{params.model}: its tokenizer has {len(tokenizer)} tokens, but the model knows {known}")
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def load_tokenizer(params: LlmParams) -> PreTrainedTokenizerBase:
    """The model's tokenizer; a plain template and the end token stand in for a chat template and a padding token."""
    with reading(params.model, "a causal language model"):
        tokenizer = AutoTokenizer.from_pretrained(_model_folder(params), local_files_only=True)
    if tokenizer.eos_token is None:
        raise InputError(f"{params.model}: its tokenizer has no end token, so no answer would end; use another model")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for name in ("is_local", "local_files_only"):  # how it was read here, which is not saved with it
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _model_folder(params: LlmParams) -> Path:
    folder = resolve(params.model)
    return plain_copy(folder) if folder.suffix == ".gguf" else folder


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
