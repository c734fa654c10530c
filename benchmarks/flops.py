"""Floating-point operations of a transformer, counted from its layers and from the lengths of the texts.

A linear layer takes two operations per weight and token. Attention takes 4 x length² x width per layer, and half of
that where a token sees only the tokens before it. Padding, normalisation and activations are not counted.
"""

from collections.abc import Sequence

import numpy as np
from torch import nn


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a model: its longest list of modules."""
    return max((part for part in model.modules() if isinstance(part, nn.ModuleList)), key=len)


def forward_flops(model: nn.Module, lengths: Sequence[int], causal: bool = False) -> float:
    """The operations of the layers when they read texts of these lengths; the output layer is not counted.

    Parameters
    ----------
    lengths : number of tokens of each text.
    causal : whether a token sees only the tokens before it.
    """
    layers, lengths = layers_of(model), np.asarray(lengths, dtype=np.float64)
    weights = sum(part.weight.numel() for part in layers.modules() if isinstance(part, nn.Linear))
    attention = 4 * attention_width(model) * len(layers) / (2 if causal else 1)
    return float(2 * weights * lengths.sum() + attention * (lengths**2).sum())


def output_flops(model: nn.Module, tokens: float) -> float:
    """The operations of a language model's output layer for this many predicted tokens."""
    return 2.0 * model.get_output_embeddings().weight.numel() * tokens


def attention_width(model: nn.Module) -> int:
    """The width of all attention heads together."""
    config = next(part.config for part in model.modules() if hasattr(part, "config"))
    return config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def training_flops(model: nn.Module, lengths: Sequence[int], frozen_layers: int) -> float:
    """The operations of one pass of training: a trained layer takes three times its forward pass, a frozen one once."""
    layers = len(layers_of(model))
    return forward_flops(model, lengths) * (1 + 2 * (layers - frozen_layers) / layers)
