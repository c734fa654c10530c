"""Checkpoints of a training run. An incomplete checkpoint is not used."""

from pathlib import Path

from safetensors import SafetensorError
from transformers import TrainerState
from trl import SFTTrainer

from medcards import InputError, reason_of

WHOLE = "whole"
"""Name of the file that is written last into a checkpoint. A checkpoint without it was cut off."""


class CheckpointingTrainer(SFTTrainer):
    """TRL's trainer, which marks a checkpoint when it is complete, and resumes without a change of dtype."""

    def _save_checkpoint(self, model, trial):
        """Save a checkpoint and mark it as whole.

        Raises
        ------
        InputError : the checkpoint cannot be saved.
        """
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # what Python, PyTorch and safetensors raise
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # out of memory, a lost process
                raise
            raise InputError(
                f"the checkpoint of step {self.state.global_step} could not be saved in {self.args.output_dir} "
                f"({reason_of(error)}); free space and run again: training resumes from the last whole checkpoint"
            ) from error
        self.accelerator.wait_for_everyone()  # each process writes a part
        if self.is_world_process_zero():
            (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / WHOLE).touch()

    def _load_from_checkpoint(self, *arguments, **options):
        """Load a checkpoint into weights of unchanged dtypes.

        TRL trains adapters of quantised bases in bfloat16; PEFT loads them as float32.
        """
        dtypes = {name: weight.dtype for name, weight in self.model.named_parameters() if weight.requires_grad}
        super()._load_from_checkpoint(*arguments, **options)
        for name, weight in self.model.named_parameters():
            if name in dtypes:
                weight.data = weight.data.to(dtypes[name])


def whole_checkpoints(scratch: Path) -> list[Path]:
    """The folders of the complete checkpoints in ``scratch``, oldest first."""
    found = [mark.parent for mark in scratch.glob(f"checkpoint-*/{WHOLE}")]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimizer step of a checkpoint's folder."""
    return int(checkpoint.name.rpartition("-")[2])


def saved_state(checkpoint: Path) -> TrainerState:
    """The trainer's state in a checkpoint."""
    return TrainerState.load_from_json(checkpoint / "trainer_state.json")


def stopped_early(checkpoint: Path, patience: int) -> bool:
    """Whether early stopping had ended the training at this checkpoint."""
    saved = saved_state(checkpoint).stateful_callbacks.get("EarlyStoppingCallback")
    return bool(saved) and saved["attributes"]["early_stopping_patience_counter"] >= patience
