"""One question, answered by the base model or the tuned model after it reads the cards that the search finds.

>>> from medcards.answers.asker import Asker
>>> asker = Asker.load("data")  # doctest: +SKIP
>>> hits = asker.find("why are my teeth crooked")  # doctest: +SKIP
>>> *_, answer = asker.answer("why are my teeth crooked", hits)  # doctest: +SKIP
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Thread

from medcards.base.files import read_json
from medcards.deck import cards as card_tables
from medcards.deck.cards import card_text, read_material
from medcards.search.rankings import RANKING_DEPTH
from medcards.search.searcher import Hit, Searcher, check_question

MODELS = ("tuned", "base")
"""The models that answer."""
READ = ("all", "training", "none")
"""Which cards a model may read before it answers."""
NOT_ADVICE = "Not medical advice: no physician checked this answer."
NO_ADAPTER = "There is no adapter yet: `dvc repro finetune` makes it."
OTHER_DECK = "The adapter was tuned on another deck: `dvc repro finetune` tunes one on this deck."
MAX_QUESTION_WORDS = 400
"""Words of a question that a model reads. The rest is cut, because small models fail on long questions."""


def deck_remark(manifest: dict, data: Path) -> str:
    """:data:`OTHER_DECK` where an adapter was tuned on another deck than the one in the folder ``data``, else empty.

    Parameters
    ----------
    manifest : the adapter's manifest.
    """
    return "" if manifest["material"] == read_material(data / "cards") else OTHER_DECK


class Asker:
    """The served search and the language model, loaded.

    Attributes
    ----------
    tuned : whether there is an adapter. Without one, every answer is the base model's.
    remark : a warning about the adapter for the reader, or empty.
    """

    def __init__(
        self, searcher: Searcher, training: set[str], model, tokenizer, system_prompt: str, tuned: bool, remark: str
    ):
        self._searcher, self._training = searcher, training
        self._model, self._tokenizer, self._system_prompt = model, tokenizer, system_prompt
        self.tuned, self.remark = tuned, remark

    @classmethod
    def load(cls, data: str | Path = "data") -> "Asker":
        """Read what the pipeline made; nothing outside the folder ``data`` is read, except the base model.

        Before there is an adapter, the base model is the one that the stage ``models`` noted.

        Raises
        ------
        InputError : a file is missing or damaged, or two files belong to different runs.
        """
        from medcards.llm.loading import LlmParams, load_llm, load_tuned

        data = Path(data)
        searcher, cards, adapter = Searcher.load(data), card_tables.load_cards(data / "cards"), data / "adapter"
        remark = NO_ADAPTER
        if tuned := adapter.exists():
            manifest = read_json(adapter / "manifest.json")
            llm = LlmParams(**manifest["llm"])
            model, tokenizer = load_tuned(llm, adapter)
            remark = deck_remark(manifest, data)
        else:
            llm = LlmParams(**read_json(data / "models" / "llm.json")["llm"])
            model, tokenizer = load_llm(llm)
        training = set(cards.card_id[cards.split == "train"])
        return cls(searcher, training, model.eval(), tokenizer, llm.system_prompt, tuned, remark)

    def find(self, question: str, k: int = 3, read: str = "all") -> list[Hit]:
        """The best cards for a question, best first.

        Parameters
        ----------
        k : the largest number of cards.
        read : one of :data:`READ`. ``all`` searches the whole deck; ``training`` keeps the training cards among the 50
            best cards of the deck; ``none`` finds no card.

        Raises
        ------
        InputError : the question is empty, or ``k`` is not between 1 and 50.
        """
        question = check_question(question, k)
        if read == "none":
            return []
        hits = self._searcher.search(question, RANKING_DEPTH)
        return [hit for hit in hits if read == "all" or hit.card_id in self._training][:k]

    def answer(self, question: str, hits: list[Hit], base: bool = False, max_new_tokens: int = 64) -> Iterator[str]:
        """Generate an answer greedily. Each item is the whole answer so far, without the number of the card it cites.

        Parameters
        ----------
        hits : the cards that the model reads before the question, as the system ``lora_rag`` does.
        base : whether the adapter is switched off.
        """
        import torch
        from transformers import TextIteratorStreamer

        from medcards.llm.citations import split_citation
        from medcards.llm.prompts import prompt_ids

        question = " ".join(check_question(question, 1).split()[:MAX_QUESTION_WORDS])
        read = [card_text(hit.question, hit.answer) for hit in hits]
        ids = torch.tensor([prompt_ids(self._tokenizer, question, self._system_prompt, read)]).to(self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        errors: list[BaseException] = []

        def generate_answer() -> None:
            try:
                with torch.inference_mode(), self._model.disable_adapter() if base and self.tuned else nullcontext():
                    self._model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=max_new_tokens,
                        do_sample=False,
                        streamer=streamer,
                    )
            except BaseException as error:  # without the end of the stream, the reader would wait forever
                errors.append(error)
                streamer.end()

        thread, answer = Thread(target=generate_answer), ""
        thread.start()
        for text in streamer:
            answer += text
            yield split_citation(answer, len(read))[1].strip()
        thread.join()
        if errors:
            raise errors[0]
