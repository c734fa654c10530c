"""Loading the language model: in full precision, int8 or NF4, with or without an adapter."""

import copy
import logging
import os
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medcards import InputError, reason_of
from medcards.base.errors import lacking, reading
from medcards.base.files import atomic, changed_file, read_json, sha256_of, write_hashes
from medcards.base.matmul import fastest_attention
from medcards.base.references import cache_folder, resolve, written_in_cache
from medcards.llm.attention import group_attention
from medcards.llm.params import LlmParams
from medcards.llm.prompts import end_of_turn, settled_template

log = logging.getLogger(__name__)

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings of a generation config that count where answers are sampled only."""


def device(params: LlmParams) -> str:
    """``cuda`` where there is a GPU, else ``cpu``; ``params.device`` and the launcher's ``use_cpu`` come first.

    Raises
    ------
    InputError : ``params.device`` asks for a GPU, and PyTorch finds none.
    """
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return "cpu"
    if params.device == "cuda" and not torch.cuda.is_available():
        raise InputError("llm.device=cuda: PyTorch finds no GPU on this machine; take auto or cpu")
    if params.device != "auto":
        return params.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(params: LlmParams) -> str:
    """PyTorch's name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name() if device(params) == "cuda" else "cpu"


def compute_dtype(params: LlmParams) -> torch.dtype:
    """``params.dtype``; ``auto`` is bfloat16 on a GPU that computes in it, else float32."""
    if params.dtype != "auto":
        return getattr(torch, params.dtype)
    has_it = device(params) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_it else torch.float32


def load_llm(params: LlmParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model and its tokenizer.

    ``params.quantize`` is ``none``, ``int8`` for LLM.int8() (Dettmers et al., 2022), or ``nf4`` for 4-bit NormalFloat
    with double quantisation, the base of QLoRA (Dettmers et al., 2023). bitsandbytes runs both on a GPU or on the CPU.
    Where one process trains on each GPU, every process loads the model to its own GPU. Where FSDP shards the model,
    every process loads it to the CPU, or a quantised base to its GPU.

    Raises
    ------
    InputError : the reference is no language model, or the machine lacks what a parameter asks for.
    """
    folder, automatic = _model_folder(params), params.attention == "auto"
    attention = fastest_attention(device(params)) if automatic else params.attention
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
                attn_implementation=attention,
                local_files_only=True,
            )
        except ImportError as error:
            settings = f"llm.attention={params.attention}, llm.quantize={params.quantize}"
            raise InputError(f"{settings}: {reason_of(error)}") from error
    tokenizer = load_tokenizer(params)
    if len(tokenizer) > (known := model.get_input_embeddings().num_embeddings):
        raise InputError(f"{params.model}: its tokenizer has {len(tokenizer)} tokens, but the model knows {known}")
    if automatic and attention == "eager":
        group_attention(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = generation_settings(model, tokenizer)
    return model, tokenizer


def generation_settings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The model's own settings, but greedy, and with every token that ends an answer.

    An answer ends at the end of a turn, which training teaches, and at the end tokens of the model.
    """
    settings = copy.deepcopy(model.generation_config)
    of_model = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    ends = [end_of_turn(tokenizer), tokenizer.eos_token_id, *of_model]
    settings.update(eos_token_id=[end for end in dict.fromkeys(ends) if end is not None])
    settings.update(pad_token_id=tokenizer.pad_token_id, do_sample=False, **dict.fromkeys(_SAMPLING))
    return settings


def load_tuned(
    params: LlmParams, adapter: str | Path, base: PreTrainedModel | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load the base model with an adapter on it, and the base's tokenizer.

    Parameters
    ----------
    params : the base model, with the pinned reference.
    adapter : the folder that the stage finetune wrote.
    base : the base model, if it is loaded. The adapter is put into it.

    Raises
    ------
    InputError : the adapter is missing or damaged, belongs to another base or does not fit it; or see
        :func:`load_llm`.
    """
    check_base(params, adapter)
    base, tokenizer = (base, load_tokenizer(params)) if base else load_llm(params)
    return _with_adapter(base, adapter), tokenizer


def load_in_worker(params: LlmParams, own: bool, tuned: bool, *folders: Path) -> PreTrainedModel | PeftModel:
    """The model with which a worker answers.

    Parameters
    ----------
    own : whether the base model is the user's own. It is fetched by its reference if not.
    tuned : whether the tuned model is asked, or the base model.
    folders : where the worker has the user's own base model, if ``own``, and the adapter, if ``tuned``.
    """
    base, _ = load_llm(params.model_copy(update={"model": f"path:{folders[0]}"}) if own else params)
    return merge_if_exact(_with_adapter(base, folders[-1])) if tuned else base


def _with_adapter(base: PreTrainedModel, adapter: str | Path) -> PeftModel:
    try:
        return PeftModel.from_pretrained(base, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        if lacking(error) == "memory":
            raise
        raise InputError(
            f"{adapter} does not fit its base, or is damaged ({reason_of(error)}): run `dvc repro -f finetune`"
        ) from error


def check_base(params: LlmParams, adapter: str | Path) -> None:
    """Check that an adapter was tuned on the base model that ``params`` name, and that it is whole. No model is loaded.

    Raises
    ------
    InputError : a file of the adapter is missing or changed, or it belongs to another base, for example after a branch
        on the hub moved.
    """
    tuned_on = read_json(Path(adapter) / "manifest.json").get("llm", {}).get("model")
    if tuned_on != params.model:
        raise InputError(f"the adapter belongs to {tuned_on}, not to {params.model}: run `dvc repro -f finetune`")
    check_whole(Path(adapter))


def check_whole(adapter: Path) -> None:
    """Check the files of an adapter against the hashes in its manifest.

    Raises
    ------
    InputError : one of them is missing or changed, or the manifest has no hashes.
    """
    hashes = read_json(adapter / "manifest.json").get("sha256")
    if not hashes:
        raise InputError(f"{adapter / 'manifest.json'} is damaged: run `dvc repro -f finetune`")
    for name, sha256 in hashes.items():
        if not (adapter / name).exists() or sha256_of(adapter / name) != sha256:
            raise InputError(f"{adapter / name} is missing or damaged: run `dvc repro -f finetune`")


def merge_if_exact(tuned: PeftModel) -> PreTrainedModel | PeftModel:
    """The tuned model with its adapter merged into the base's weights, which computes less.

    The adapter stays apart where merging would round the weights: on a quantised base, and on one in half precision. It
    stays apart also where it changes the embeddings, because a model's head may share their weights.
    """
    ends = tuned.get_base_model().get_input_embeddings(), tuned.get_base_model().get_output_embeddings()
    adapted_ends = any(hasattr(layer, "base_layer") for layer in ends)
    exact = all(weight.dtype == torch.float32 for weight in tuned.parameters())
    return tuned.merge_and_unload() if exact and not adapted_ends else tuned


def load_tokenizer(params: LlmParams) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    The end token stands in for a missing padding token. :func:`medcards.llm.prompts.settled_template` gives the chat
    template.

    Raises
    ------
    InputError : the reference is no language model, or its tokenizer has no end token.
    """
    with reading(params.model, "a causal language model"):
        tokenizer = AutoTokenizer.from_pretrained(_model_folder(params), local_files_only=True)
    if tokenizer.eos_token is None:
        raise InputError(f"{params.model}: its tokenizer has no end token, so no answer would end; use another model")
    tokenizer.chat_template = settled_template(tokenizer, params.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # These keys describe the local load, and save_pretrained would write them.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _model_folder(params: LlmParams) -> Path:
    folder = resolve(params.model)
    return plain_copy(folder) if folder.suffix == ".gguf" else folder


def plain_copy(gguf: Path) -> Path:
    """A safetensors copy of a GGUF model, written once into the per-user cache.

    transformers de-quantises a GGUF file while it loads it, and refuses to save or to quantise such a model. Therefore
    its weights are copied into a new model of the same architecture.
    """
    target = cache_folder() / "plain" / f"{gguf.stem}-{sha256_of(gguf)[:12]}"
    if changed_file(target):
        with written_in_cache(target):
            if changed_file(target):  # another process may have written it meanwhile
                _copy_plainly(gguf, target)
    return target


def _copy_plainly(gguf: Path, target: Path) -> None:
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
        write_hashes(folder)
