"""Attention of a language model on a CPU, without the copies that eager attention makes."""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

ARCHITECTURES = frozenset(
    ("gemma", "gpt2", "gpt_neox", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
)
"""Architectures whose every layer has plain attention and obeys a mask of four dimensions.

A test compares the losses of each with those of TRL, and its logits with those of its own eager attention.
"""
GROUPED = "grouped"
"""The name of :func:`grouped_attention` in transformers."""


def group_attention(model: PreTrainedModel) -> None:
    """Let a model compute its attention by :func:`grouped_attention`, if its architecture is known.

    GPT-2 can compute attention in float32 where the model computes in half precision. Such a model stays as it is.
    """
    if model.config.model_type in ARCHITECTURES and not getattr(model.config, "reorder_and_upcast_attn", False):
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, eager_mask)
        model.set_attn_implementation(GROUPED)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention where several heads share the keys and values of one (Ainslie et al., 2023, "GQA").

    The eager attention of transformers copies keys and values for every head. Here the queries of the heads that share
    a key stand in the rows of one matrix, so that nothing is copied.

    Parameters
    ----------
    query : shape (batch, heads, tokens, size).
    key, value : shape (batch, shared heads, seen tokens, size).
    attention_mask : added to the scores, shape (batch, 1, tokens, seen tokens).

    Returns
    -------
    output : shape (batch, tokens, heads, size).
    weights : shape (batch, heads, tokens, seen tokens).
    """
    batch, heads, tokens, _size = query.shape
    grouped = (batch, key.shape[1], heads // key.shape[1] * tokens, -1)
    scores = (query.reshape(grouped) @ key.transpose(2, 3)).view(batch, heads, tokens, -1) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = torch.nn.functional.dropout(weights, p=dropout, training=module.training)
    output = (weights.view(grouped) @ value).view(batch, heads, tokens, -1)
    return output.transpose(1, 2).contiguous(), weights
