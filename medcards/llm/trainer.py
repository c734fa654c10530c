"""TRL's trainer with packed rows, weighted citations, and the likelihood of every validation card."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object
from tqdm import tqdm

from medcards.base.files import read_json
from medcards.llm.checkpoints import CheckpointingTrainer
from medcards.llm.packing import IGNORED, answer_losses, can_pack, pack, token_weights


class CardTrainer(CheckpointingTrainer):
    """Computes TRL's loss without padding, and the likelihood of each card in a validation.

    Where :func:`medcards.llm.packing.can_pack` holds, a batch is packed into one row, and only answer tokens get
    logits. Otherwise TRL pads the batch and computes the loss. The loss is the same.

    Parameters
    ----------
    citation_weight : weight of the tokens of a citation in the training loss. The validation loss has no weights.
    options : those of TRL's trainer.
    """

    def __init__(self, citation_weight: float = 1.0, **options):
        self.citation_weight = citation_weight
        super().__init__(**options)
        longest = max(len(ids) for rows in (self.train_dataset, self.eval_dataset) for ids in rows["input_ids"])
        tokens = longest * self.args.per_device_train_batch_size
        self.packed = can_pack(self.model.config, tokens) and not self.aux_loss_enabled
        if self.packed:
            dtype = torch.bfloat16 if self.args.bf16 else torch.float32
            self.data_collator = partial(pack, dtype=dtype, citation_weight=citation_weight)
        elif citation_weight != 1:
            self.data_collator = partial(_padded, self.data_collator, citation_weight)

    def _set_signature_columns_if_needed(self):
        """Keep the column of the citations where they have a weight."""
        known = self._signature_columns
        super()._set_signature_columns_if_needed()
        if known is None and self.citation_weight != 1:
            self._signature_columns.append("citation_mask")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The weighted sum of the losses of all answer tokens, divided by their number in the optimizer step."""
        weights = inputs.pop("weights", None)
        if not self.packed:
            weighted = model if weights is None else _weighted(model, weights)
            return super().compute_loss(weighted, inputs, return_outputs, num_items_in_batch)
        row_tokens = self.accelerator.gather(inputs.pop("row_tokens")).sum()
        self._total_train_tokens += row_tokens.item()
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        losses = answer_losses(model, inputs)
        if weights is not None:
            losses = losses * weights
        if num_items_in_batch is None:
            return losses.mean()
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes  # DDP takes the mean of the processes

    def evaluate(self, ignore_keys=None):
        """Compute, log and keep the likelihood of the validation cards.

        Before the first step it is that of the base. The loss is the mean over the cards of each card's mean over its
        answer tokens. :func:`validation_nll` reads the likelihood of each card.
        """
        step = self.state.global_step
        self.model.eval()
        base = self.model.disable_adapter() if step == 0 else nullcontext()
        with base, torch.no_grad(), self.compute_loss_context_manager():
            nll = self._validated()
        if self.is_world_process_zero():
            _validation_file(Path(self.args.output_dir), step).write_text(json.dumps(nll), encoding="utf-8")
        metrics = {"eval_loss": float(np.mean(nll))}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validated(self) -> list[float]:
        """Mean negative log-likelihood of the answer tokens of every validation card.

        The processes share the batches. Each computes equally many, because FSDP's processes wait for each other.
        """
        rows, size = self.eval_dataset.to_list(), self.args.per_device_eval_batch_size
        starts = range(0, len(rows), size)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        places = range(rank, -(-len(starts) // processes) * processes, processes)
        found = {}
        for place in tqdm(places, f"validation, step {self.state.global_step}", leave=False, disable=rank != 0):
            start = starts[place % len(starts)]
            found[start] = self._card_nll(rows[start : start + size])
        every = dict(gather_object(list(found.items())))
        return [card for start in starts for card in every[start]]

    def _card_nll(self, rows: list[dict]) -> list[float]:
        """Mean negative log-likelihood of the answer tokens of each row."""
        counts = [sum(label != IGNORED for label in row["labels"]) for row in rows]
        batch = self._prepare_inputs(self.data_collator(rows))
        batch.pop("weights", None)
        if self.packed:
            del batch["row_tokens"]
            sums = torch.stack([part.sum() for part in answer_losses(self.model, batch).split(counts)])
        else:
            sums = -self.model(**batch, fused_lm_head=True).log_probs.float().sum(1)
        return [loss / count for loss, count in zip(sums.tolist(), counts, strict=True)]


def _padded(collate: Callable[[list[dict]], dict], citation_weight: float, rows: list[dict]) -> dict[str, torch.Tensor]:
    """TRL's padded batch, with the ``weights`` of its tokens; padding has the weight 1."""
    batch = collate(rows)
    batch["weights"] = torch.ones(batch["labels"].shape)
    for weights, row in zip(batch["weights"], rows, strict=True):
        weights[: len(row["input_ids"])] = token_weights(row, citation_weight)
    return batch


def _weighted(model: torch.nn.Module, weights: torch.Tensor) -> Callable:
    """The model with weighted log-likelihoods, whose sum TRL takes as the loss."""

    def forward(**inputs):
        outputs = model(**inputs)
        outputs.log_probs = outputs.log_probs * weights[:, 1:]  # the first token of a row is not predicted
        return outputs

    return forward


def validation_nll(scratch: Path, step: int) -> list[float]:
    """Mean negative log-likelihood of each validation answer after an optimizer step, in nats per token.

    Parameters
    ----------
    scratch : the trainer's folder.
    step : a step after which the trainer validated. 0 is the base.
    """
    return read_json(_validation_file(scratch, step))


def _validation_file(scratch: Path, step: int) -> Path:
    """In the trainer's folder, so that it survives a kill as the checkpoints do."""
    return scratch / f"validation-{step}.json"
