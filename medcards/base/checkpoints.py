"""Checkpoints of a training run that survive a kill. One that is incomplete, or was changed, is not used."""

from pathlib import Path

from medcards import InputError, reason_of
from medcards.base.errors import lacking
from medcards.base.files import HASHES, changed_file, write_hashes


def marking(trainer: type) -> type:
    """A trainer of transformers that writes the hashes of a checkpoint's files into it when it is complete."""
    from safetensors import SafetensorError

    class MarkingTrainer(trainer):
        def _save_checkpoint(self, model, trial):
            """Save a checkpoint and mark it as whole.

            Raises
            ------
            InputError : the checkpoint cannot be saved.
            """
            try:
                super()._save_checkpoint(model, trial)
            except (OSError, RuntimeError, SafetensorError) as error:  # what Python, PyTorch and safetensors raise
                lost_process = isinstance(error, RuntimeError) and type(error) is not RuntimeError
                if lost_process or lacking(error) == "memory":
                    raise
                raise InputError(
                    f"the checkpoint of step {self.state.global_step} could not be saved in {self.args.output_dir} "
                    f"({reason_of(error)}); free space and run again: training resumes from the last whole checkpoint"
                ) from error
            self.accelerator.wait_for_everyone()  # each process writes a part
            if self.is_world_process_zero():
                write_hashes(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    return MarkingTrainer


def last_checkpoint(scratch: Path) -> Path | None:
    """The folder of the last whole checkpoint in ``scratch``, whose files are those that were written."""
    marked = sorted((mark.parent for mark in scratch.glob(f"checkpoint-*/{HASHES}")), key=step_of, reverse=True)
    return next((folder for folder in marked if not changed_file(folder)), None)


def step_of(checkpoint: Path) -> int:
    """The optimizer step of a checkpoint's folder."""
    return int(checkpoint.name.rpartition("-")[2])
