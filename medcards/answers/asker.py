"""One question, answered by a card of the deck or by a language model that reads cards.

>>> from medcards.answers.asker import Asker
>>> asker = Asker.load("data")  # doctest: +SKIP
>>> found = asker.find("why are my teeth crooked")  # doctest: +SKIP
>>> *_, reply = asker.replies("why are my teeth crooked", found)  # doctest: +SKIP
>>> print(reply.text, reply.cited.card_id, reply.probability)  # doctest: +SKIP
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

from medcards import InputError
from medcards.answers.open_book import QUOTED, WORDED
from medcards.base.files import read_json
from medcards.deck import cards as card_tables
from medcards.deck.cards import read_material
from medcards.llm.citations import split_citation
from medcards.llm.params import LlmParams
from medcards.search.searcher import Found, Hit, Searcher, check_question

MODELS = ("tuned", "base")
"""The models that can word an answer."""
READ = ("all", "training", "none")
"""Which cards may be quoted, and read by a model before it answers."""
NOT_ADVICE = "Not medical advice: no physician checked this."
NO_ANSWER = "The deck probably has no answer."
NO_CARD = "No card was found."
NO_ADAPTER = "There is no adapter yet: `dvc repro finetune` makes it."
OTHER_DECK = "The adapter was tuned on another deck: `dvc repro finetune` tunes one on this deck."
MAX_QUESTION_WORDS = 400
"""Words of a question that a model reads. The rest is cut, because small models fail on long questions."""
_UNFINISHED = re.compile(r"\[[\d\s,]*\Z")
"""A text that may become a citation."""


@dataclass(frozen=True)
class Reply:
    """What a person is shown after a question.

    Parameters
    ----------
    text : the answer without its citation, or a line that says why there is none.
    answered_by : ``card`` for a quoted card, the model's name in :data:`MODELS`, or None for no answer.
    cited : the card that the answer comes from; None where the model cites none.
    probability, refused : as in :class:`medcards.search.searcher.Found`. The deck is asked, whatever answers.
    hits : the cards that were found; those in the prompt where a model answers.
    remark : a warning for the reader, or empty.
    searched : as in :class:`medcards.search.searcher.Found`.
    """

    question: str
    text: str
    answered_by: str | None
    cited: Hit | None
    probability: float
    refused: bool
    hits: list[Hit]
    remark: str = ""
    searched: str = ""


def deck_remark(manifest: dict, data: Path) -> str:
    """:data:`OTHER_DECK` where an adapter was tuned on another deck than the one in the folder ``data``, else empty.

    Parameters
    ----------
    manifest : the adapter's manifest.
    """
    return "" if manifest["material"] == read_material(data / "cards") else OTHER_DECK


def chosen_answer(data: Path) -> str:
    """The answering system that is served: ``search_open`` quotes the first card, ``lora_rag_open`` words an answer.

    The stage evaluate chooses it on validation questions. Before that, the card is quoted.

    Raises
    ------
    InputError : the file is damaged.
    """
    file = data / "scores" / "served_answer.json"
    if not file.exists():
        return QUOTED
    chosen = read_json(file)
    if not isinstance(chosen, dict) or chosen.get("system") not in (QUOTED, WORDED):
        raise InputError(f"{file} is damaged: run `dvc repro -f evaluate`")
    return chosen["system"]


class Asker:
    """The served search and, from the first time that it is asked for words, the language model.

    Parameters
    ----------
    training : ids of the training cards.
    data : the folder that the pipeline wrote.
    served : the answering system that is served, see :func:`chosen_answer`.
    """

    def __init__(self, searcher: Searcher, training: set[str], data: Path, served: str):
        self.searcher, self.served = searcher, served
        self._training, self._data = training, data
        self._loaded, self._loading = None, Lock()

    @classmethod
    def load(cls, data: str | Path = "data") -> "Asker":
        """Load the search; nothing outside the folder ``data`` is read, except base models.

        Raises
        ------
        InputError : a file is missing or damaged, or two files belong to different runs.
        """
        data = Path(data)
        searcher, cards = Searcher.load(data), card_tables.load_cards(data / "cards")
        return cls(searcher, set(cards.card_id[cards.split == "train"]), data, chosen_answer(data))

    @cached_property
    def _not_training(self) -> set[int]:
        """The rows of the cards that are no training cards."""
        return self.searcher.rows_but(self._training)

    @cached_property
    def _manifest(self) -> dict | None:
        """The adapter's manifest; None where there is no adapter."""
        adapter = self._data / "adapter"
        return read_json(adapter / "manifest.json") if adapter.exists() else None

    @property
    def tuned(self) -> bool:
        """Whether there is an adapter. Without one, the base model answers in place of the tuned one."""
        return self._manifest is not None

    @cached_property
    def remark(self) -> str:
        """A warning about the adapter for the reader, or empty."""
        return deck_remark(self._manifest, self._data) if self.tuned else NO_ADAPTER

    @property
    def quotes(self) -> bool:
        """Whether the served answer is a quoted card. Words of the tuned model need an adapter of this deck."""
        return self.served == QUOTED or bool(self.remark)

    def find(self, question: str, k: int = 3, read: str = "all") -> Found:
        """The best cards for a question, best first, and the probability that the deck has an answer.

        Parameters
        ----------
        k : the largest number of cards.
        read : one of :data:`READ`. ``all`` searches all cards, ``training`` the training cards; ``none`` keeps no
            card. The probability is that of the whole deck.

        Raises
        ------
        InputError : the question is empty, or ``k`` is not between 1 and 50.
        """
        hidden = self._not_training if read == "training" else frozenset()
        found = self.searcher.find(check_question(question, k), k, hidden)
        return replace(found, hits=[]) if read == "none" else found

    def replies(
        self, question: str, found: Found, model: str | None = None, max_new_tokens: int = 192
    ) -> Iterator[Reply]:
        """The reply to a question while it is written. Each item is the whole reply so far.

        Without a ``model``, the served system answers, and no answer is given where the deck probably has none. The
        card is quoted in place of the tuned model's words where there is no adapter, or one of another deck.

        Parameters
        ----------
        found : what :meth:`find` found. Its hits are quoted, or stand in the prompt.
        model : the model of :data:`MODELS` that words an answer.

        Raises
        ------
        InputError : a model is needed, and its files are missing or damaged.
        """
        question, hits = check_question(question, 1), found.hits
        reply = Reply(question, "", None, None, found.probability, found.refused, hits, searched=found.searched)
        if model is None and found.refused:
            yield replace(reply, text=NO_ANSWER)
        elif model is None and not hits:
            yield replace(reply, text=NO_CARD)
        elif model is None and self.quotes:
            remark = "" if self.served == QUOTED else self.remark
            yield replace(reply, text=hits[0].answer, answered_by="card", cited=hits[0], remark=remark)
        else:
            remark = "" if model == "base" else self.remark
            reply = replace(reply, answered_by="tuned" if self.tuned and model != "base" else "base", remark=remark)
            for cited, text in self._words(question, hits, reply.answered_by == "base", max_new_tokens):
                yield replace(reply, text=text, cited=cited)

    def load_model(self) -> tuple:
        """The language model, its tokenizer and its system prompt, loaded once.

        Before there is an adapter, it is the base model that the stage ``models`` noted.

        Raises
        ------
        InputError : a file is missing or damaged.
        """
        with self._loading:  # a second thread would see half of the libraries that the first one imports
            if self._loaded is None:
                from medcards.llm.loading import load_llm, load_tuned

                if self.tuned:
                    params = LlmParams(**self._manifest["llm"])
                    model, tokenizer = load_tuned(params, self._data / "adapter")
                else:
                    params = LlmParams(**read_json(self._data / "models" / "llm.json")["llm"])
                    model, tokenizer = load_llm(params)
                self._loaded = model.eval(), tokenizer, params.system_prompt
        return self._loaded

    def _words(
        self, question: str, hits: list[Hit], base: bool, max_new_tokens: int
    ) -> Iterator[tuple[Hit | None, str]]:
        """The card that a model cites, and its answer so far. A citation shows once it is complete."""
        model, tokenizer, system_prompt = self.load_model()
        from medcards.llm.streaming import stream_answer  # after load_model, see there

        question = " ".join(question.split()[:MAX_QUESTION_WORDS])
        read = [hit.answer for hit in hits]
        cited, words = None, ""
        for text in stream_answer(
            model, tokenizer, question, system_prompt, max_new_tokens, read, base and self.tuned, citing=bool(read)
        ):
            number, words = split_citation(text, len(read))
            cited = hits[number - 1] if number else None
            yield cited, "" if _UNFINISHED.match(words) else words
        yield cited, words
