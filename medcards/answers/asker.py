"""Ask the deck: a language model's answer, then the cards that it read.

    python -m medcards.answers.asker "why are my teeth crooked"
    python -m medcards.answers.asker "why are my teeth crooked" --model base --read none

It uses what `dvc repro` made: the served search, and the adapter on its base model. Before there is an adapter, the
base model of params.yaml answers. From Python, `Asker.load("data")` with `find` and `answer` does the same.
"""

import argparse
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Thread

from medcards import InputError
from medcards.base.files import read_json
from medcards.deck import cards as card_tables
from medcards.search.searcher import DEPTH, Hit, Searcher, checked, table

READ = ("all", "training", "none")
"""Which cards a model may read before it answers."""
NOT_ADVICE = "Not medical advice: nothing here was checked by a physician."
NO_ADAPTER = "There is no adapter yet: `dvc repro finetune` makes it."
OTHER_DECK = "The adapter was tuned on another deck: `dvc repro finetune` tunes one on this."
LONGEST = 400
"""Words of a question that a model is shown; small models get lost in longer ones."""


class Asker:
    """The served search and the language model, ready to be asked.

    ``tuned`` says whether there is an adapter; without one, every answer is the base model's. ``remark`` is what a
    reader must know of it, or empty.
    """

    def __init__(
        self, searcher: Searcher, training: set[str], model, tokenizer, system_prompt: str, tuned: bool, remark: str
    ):
        self._searcher, self._training = searcher, training
        self._model, self._tokenizer, self._system_prompt = model, tokenizer, system_prompt
        self.tuned, self.remark = tuned, remark

    @classmethod
    def load(cls, data: str | Path = "data") -> "Asker":
        """Read what the pipeline made there and in the metrics/ beside it.

        As long as there is no adapter, the base model is the one that params.yaml names.

        Raises
        ------
        InputError : something is missing or damaged, or does not belong together.
        """
        from peft import PeftModel

        from medcards.base.params import load
        from medcards.llm.loading import LlmParams, load_llm

        adapter = Path(data) / "adapter"
        searcher, cards = Searcher.load(data), card_tables.load(Path(data) / "cards")
        remark = NO_ADAPTER
        if tuned := adapter.exists():
            manifest = read_json(adapter / "manifest.json")
            llm = LlmParams(**manifest["llm"])
            deck = read_json(Path(data).parent / "metrics" / "prepare.json")["material"]
            remark = "" if manifest["material"] == deck else OTHER_DECK
        else:
            (llm,) = load("params.yaml", llm=LlmParams)
        model, tokenizer = load_llm(llm)
        if tuned:
            model = PeftModel.from_pretrained(model, adapter)
        training = set(cards.card_id[cards.split == "train"])
        return cls(searcher, training, model.eval(), tokenizer, llm.system_prompt, tuned, remark)

    def find(self, question: str, k: int = 3, read: str = "all") -> list[Hit]:
        """The ``k`` best cards of the whole deck, or of the training cards among the best 50; none at all.

        Raises
        ------
        InputError : the question is empty, or ``k`` is not between 1 and 50.
        """
        question = checked(question, k)
        if read == "none":
            return []
        hits = self._searcher.search(question, DEPTH)
        return [hit for hit in hits if read == "all" or hit.card_id in self._training][:k]

    def answer(self, question: str, hits: list[Hit], base: bool = False, max_new_tokens: int = 64) -> Iterator[str]:
        """The answer as it grows, greedily generated: each item is all of it so far.

        Parameters
        ----------
        hits : the cards that the model reads before the question, as ``lora_rag`` does.
        base : whether the adapter is switched off.
        """
        import torch
        from transformers import TextIteratorStreamer

        from medcards.llm.prompts import prompt_ids

        question = " ".join(checked(question, 1).split()[:LONGEST])
        read = [f"{hit.question} {hit.answer}" for hit in hits]
        ids = torch.tensor([prompt_ids(self._tokenizer, question, self._system_prompt, read)]).to(self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        failed: list[BaseException] = []

        def generate() -> None:
            try:
                with torch.inference_mode(), self._model.disable_adapter() if base and self.tuned else nullcontext():
                    self._model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=max_new_tokens,
                        do_sample=False,
                        streamer=streamer,
                    )
            except BaseException as error:  # it would be lost with the thread, and the reader would wait for ever
                failed.append(error)
                streamer.end()

        thread, said = Thread(target=generate), ""
        thread.start()
        for text in streamer:
            said += text
            yield said.strip()
        thread.join()
        if failed:
            raise failed[0]


def quiet() -> None:
    """Keep what libraries say while models are loaded from between the lines of a program."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # of libraries, about each other


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m medcards.answers.asker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", help="what you want to know")
    parser.add_argument("--model", choices=("tuned", "base"), default="tuned", help="which answers (default tuned)")
    parser.add_argument("--read", choices=READ, default="all", help="which cards it may read first (default all)")
    parser.add_argument("-k", type=int, default=3, help="so many cards (default 3)")
    parser.add_argument("--data", default="data", help="the folder that the pipeline wrote (default data)")
    given = parser.parse_args()
    try:
        checked(given.question, given.k)  # before anything is loaded
        quiet()
        asker = Asker.load(given.data)
        hits = asker.find(given.question, given.k, given.read)
        said = ["", *asker.answer(given.question, hits, base=given.model == "base")][-1]
    except InputError as error:
        sys.exit(f"ask: {error}")
    width = min(shutil.get_terminal_size().columns, 120)
    name = "tuned" if asker.tuned and given.model == "tuned" else "base"
    remark = f"{asker.remark} " if asker.remark and given.model == "tuned" else ""
    print(textwrap.fill(said, width) or "(the model says nothing)")
    print(f"\n-- {name} model. {remark}{NOT_ADVICE}\n")
    print(table(hits, width) if hits else "It read no card.")


if __name__ == "__main__":
    main()
