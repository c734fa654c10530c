"""Rows packed into one: no padding, and the start that all rows share is read once."""

from os.path import commonprefix

import torch
from torch.nn.functional import cross_entropy
from transformers import PretrainedConfig, PreTrainedModel

from medcards.llm.attention import ARCHITECTURES, GROUPED

LONGEST = 2048
"""Largest number of tokens in a packed row. The cost of attention grows with the square of a row's length."""
IGNORED = -100
"""The label of a token that the loss does not count."""


def can_pack(config: PretrainedConfig, tokens: int) -> bool:
    """Whether a model computes the same losses for packed rows as for each row alone.

    FlashAttention takes no mask. A sliding window is part of the mask that packing replaces, so that a packed row must
    fit into it.

    Parameters
    ----------
    tokens : largest number of tokens that are packed into a row.
    """
    window = getattr(config, "sliding_window", None) or LONGEST
    attention = config._attn_implementation in (GROUPED, "eager", "sdpa")
    return config.model_type in ARCHITECTURES and attention and tokens <= min(window, LONGEST)


def pack(rows: list[dict[str, list[int]]], dtype: torch.dtype, citation_weight: float = 1.0) -> dict[str, torch.Tensor]:
    """Pack rows into one.

    The tokens with which all rows begin stand once, at the start; every row sees them. No row sees another row. The
    positions are those of the rows alone.

    Parameters
    ----------
    rows : ``input_ids`` and ``labels`` of each row; the labels of a prompt are :data:`IGNORED`. A weight other than 1
        needs the ``citation_mask`` too.
    dtype : that of the mask, which is the dtype that the model computes in.
    citation_weight : see :func:`token_weights`.

    Returns
    -------
    batch : what a model reads, with one row: ``input_ids``, ``labels``, ``position_ids``, and an ``attention_mask`` of
        shape (1, 1, tokens, tokens) that is added to the attention's scores. ``row_tokens`` is the number of tokens
        before packing. A weight other than 1 adds ``weights``: one for each answer token.
    """
    ids, labels = ([row[name] for row in rows] for name in ("input_ids", "labels"))
    prompt = min(next(place for place, label in enumerate(row) if label != IGNORED) for row in labels)
    shared = min(len(commonprefix(ids)), prompt - 1)  # the last token of a prompt predicts its answer
    lengths = torch.tensor([shared, *(len(row) - shared for row in ids)])
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)  # 0 for what is shared
    seen = ((owner[:, None] == owner) | (owner == 0)).tril()
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    places = [torch.arange(shared), *(torch.arange(shared, len(row)) for row in ids)]
    batch = {
        "input_ids": torch.tensor([sum((row[shared:] for row in ids), ids[0][:shared])]),
        "labels": torch.tensor([sum((row[shared:] for row in labels), labels[0][:shared])]),
        "position_ids": torch.cat(places)[None],
        "attention_mask": mask[None, None],
        "row_tokens": torch.tensor(sum(map(len, ids))),
    }
    if citation_weight != 1:
        of_rows = [token_weights(row, citation_weight)[torch.tensor(row["labels"]) != IGNORED] for row in rows]
        batch["weights"] = torch.cat(of_rows)
    return batch


def token_weights(row: dict[str, list[int]], citation_weight: float) -> torch.Tensor:
    """The weight of each token of a row in the loss: ``citation_weight`` for those of the citation, 1 for the others.

    >>> token_weights({"citation_mask": [0, 1, 1, 0]}, 3.0)
    tensor([1., 3., 3., 1.])
    """
    return 1 + (citation_weight - 1) * torch.tensor(row["citation_mask"], dtype=torch.float32)


def answer_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of each answer token of a packed row, in nats. Only these tokens get logits.

    Parameters
    ----------
    batch : what :func:`pack` returns, without ``row_tokens`` and ``weights``.
    """
    labels = batch["labels"][0, 1:]
    places = (labels != IGNORED).nonzero().flatten()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, logits_to_keep=places, use_cache=False).logits
    return cross_entropy(logits[0].float(), labels[places], reduction="none")
