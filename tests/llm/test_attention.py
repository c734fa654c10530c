"""Grouped attention gives what the eager attention of transformers gives."""

import copy

import pytest
import torch
from test_packing import config
from transformers import AutoModelForCausalLM

from medcards.llm.attention import ARCHITECTURES, GROUPED, group_attention


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_grouped_attention_equals_eager(architecture):
    """A padded batch, and a token after its cache."""
    torch.manual_seed(0)
    eager = AutoModelForCausalLM.from_config(config(architecture), attn_implementation="eager").eval()
    grouped = copy.deepcopy(eager)
    group_attention(grouped)
    assert (eager.config._attn_implementation, grouped.config._attn_implementation) == ("eager", GROUPED)
    ids, mask = torch.tensor([[1, 1, 5, 6, 7], [8, 9, 10, 11, 12]]), torch.tensor([[0, 0, 1, 1, 1], [1] * 5])
    found = []
    for model in (eager, grouped):
        with torch.inference_mode():
            read = model(input_ids=ids, attention_mask=mask, use_cache=True)
            longer = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], dim=1)
            after = model(ids[:, :1], attention_mask=longer, past_key_values=read.past_key_values)
        found.append(torch.cat([read.logits[mask.bool()], after.logits[:, 0]]))
    assert torch.allclose(*found, atol=1e-5) and found[0].std() > 0.01


def test_an_unknown_architecture_keeps_its_attention():
    model = AutoModelForCausalLM.from_config(config("bloom", n_layer=2, n_head=2), attn_implementation="eager")
    group_attention(model)
    assert model.config._attn_implementation == "eager"
