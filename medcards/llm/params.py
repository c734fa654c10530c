"""Which language model is loaded, and how. Nothing heavy is imported."""

from typing import Literal

from medcards.base.params import Block
from medcards.base.references import ReferenceText


class LlmParams(Block):
    """The language model, see params.yaml."""

    model: ReferenceText
    quantize: Literal["none", "int8", "nf4"]
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16"]
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"]
    system_prompt: str
