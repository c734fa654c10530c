"""The answer of a language model while it is written."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from threading import Thread

import torch
from transformers import PreTrainedTokenizerBase, TextIteratorStreamer

from medcards.llm.citation_start import beginning_with, citation_steps
from medcards.llm.prompts import prompt_ids


def stream_answer(
    model,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    system_prompt: str,
    max_new_tokens: int,
    context: Sequence[str] = (),
    without_adapter: bool = False,
    citing: bool = False,
) -> Iterator[str]:
    """Generate an answer greedily. Each item is the whole text so far.

    Parameters
    ----------
    model : a PreTrainedModel, or a PeftModel.
    context : texts that stand in the prompt before the question.
    without_adapter : whether the adapter of a PeftModel is switched off.
    citing : whether the answer has to begin with the number of a text in ``context``.
    """
    ids = torch.tensor([prompt_ids(tokenizer, question, system_prompt, context)]).to(model.device)
    first = [citation_steps(tokenizer, len(context))] if citing else []
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    errors: list[BaseException] = []

    def generate_answer() -> None:
        try:
            with torch.inference_mode(), model.disable_adapter() if without_adapter else nullcontext():
                model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    streamer=streamer,
                    logits_processor=beginning_with(first, ids.shape[1]),
                )
        except BaseException as error:  # without the end of the stream, the reader would wait forever
            errors.append(error)
            streamer.end()

    thread, answer = Thread(target=generate_answer), ""
    thread.start()
    for text in streamer:
        answer += text
        yield answer.strip()
    thread.join()
    if errors:
        raise errors[0]
