"""A language model: loading, prompts, generation, LoRA training, merging."""
