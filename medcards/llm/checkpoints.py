"""Checkpoints of a fine-tuning, see :mod:`medcards.base.checkpoints`."""

from pathlib import Path

from transformers import TrainerState
from trl import SFTTrainer

from medcards.base.checkpoints import marking


class CheckpointingTrainer(marking(SFTTrainer)):
    """TRL's trainer, which marks a checkpoint when it is complete, and resumes without a change of dtype."""

    def _load_from_checkpoint(self, *arguments, **options):
        """Load a checkpoint into weights of unchanged dtypes.

        TRL trains adapters of quantised bases in bfloat16; PEFT loads them as float32.
        """
        dtypes = {name: weight.dtype for name, weight in self.model.named_parameters() if weight.requires_grad}
        super()._load_from_checkpoint(*arguments, **options)
        for name, weight in self.model.named_parameters():
            if name in dtypes:
                weight.data = weight.data.to(dtypes[name])


def saved_state(checkpoint: Path) -> TrainerState:
    """The trainer's state in a checkpoint."""
    return TrainerState.load_from_json(checkpoint / "trainer_state.json")


def stopped_early(checkpoint: Path, patience: int) -> bool:
    """Whether early stopping had ended the training at this checkpoint."""
    saved = saved_state(checkpoint).stateful_callbacks.get("EarlyStoppingCallback")
    return bool(saved) and saved["attributes"]["early_stopping_patience_counter"] >= patience
