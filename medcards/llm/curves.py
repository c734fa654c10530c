"""Learning curves from the trainer's log, during and after a run."""

import time

import numpy as np
import torch
from transformers import TrainerCallback

CURVES = {
    "loss": "train_loss",
    "eval_loss": "validation_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "tokens_per_second": "tokens_per_second",
}
"""The names of the curves, by their names in the trainer's log."""


class Curves(TrainerCallback):
    """Sends the trainer's log to DVCLive, with the optimizer step as x.

    DVCLive's own callback counts log events instead of optimizer steps. A run that resumes from a checkpoint starts
    with the log before it, so that its curves are those of an uninterrupted run.

    Parameters
    ----------
    live : a ``dvclive.Live``, or None. Of several processes, only the first has one.
    """

    def __init__(self, live=None):
        self.live = live
        self._seconds = self._tokens = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        for entry in state.log_history:
            self._send(entry["step"], entry)

    def on_step_begin(self, args, state, control, **kwargs):
        self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self._seconds += time.perf_counter() - self._started
        if state.global_step % state.save_steps == 0 or state.global_step == state.max_steps:
            control.should_log = True  # a mean must not span a checkpoint

    def on_log(self, args, state, control, logs=None, **kwargs):
        entry = state.log_history[-1]  # the next checkpoint saves this entry
        if "loss" in entry:
            tokens = entry["num_tokens"]
            entry["tokens_per_second"] = (tokens - self._tokens) / self._seconds
            self._seconds, self._tokens = 0.0, tokens
        self._send(state.global_step, entry)

    def _send(self, step: int, entry: dict) -> None:
        if self.live is None:
            return
        self.live.step = step
        for name, curve in CURVES.items():
            if name in entry:
                self.live.log_metric(curve, float(entry[name]))
        self.live.make_summary()


def curve_ends(log: list[dict]) -> dict[str, dict[str, float]]:
    """First and last training loss, validation loss of the base, and lowest validation loss after it.

    A training loss is the mean over the answer tokens of an optimizer step. A validation loss is the mean over the
    validation cards of each card's mean over its answer tokens. Both are in nats per token.

    Parameters
    ----------
    log : the trainer's log history.
    """
    train = [entry["loss"] for entry in log if "loss" in entry]
    base, *tuned = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return {
        "train": {"first": train[0], "last": train[-1]},
        "validation": {"first": base, "lowest": min(tuned)},
    }


def training_speed(log: list[dict]) -> dict[str, float]:
    """Median tokens per second of the training and, on a GPU, the peak of its memory in MB."""
    measured = {"tokens_per_second": float(np.median([entry["tokens_per_second"] for entry in log if "loss" in entry]))}
    if torch.cuda.is_available():
        measured["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return measured
