"""Tiny material made by the tests: a deck, and untrained models of the real architectures."""

import hashlib
import json
import re
import tempfile
import zipfile
from pathlib import Path

TOPICS = ("asthma", "anemia", "gout", "migraine", "sepsis", "scurvy", "rickets", "vertigo", "angina", "eczema")
FACTS = (
    "causes of {} include inflammation of the airways and of the blood vessels",
    "{} is treated with sleep, fluids and a drug against pain",
    "the first sign of {} is often a fever with swelling of the joints",
    "{} is more frequent in old age than in childhood",
    "a blood test tells {} from an infection of the kidney",
    "children with {} need a diet rich in vitamins",
)

PARAMS = {
    "data__source": "file",
    "prepare__near_duplicate_threshold": 0.95,  # the tiny deck's cards are made from a few sentences
    "embed__model": "path:models/encoder/tiny",
    "adapt__enabled": True,
    "adapt__questions": 60,
    "adapt__batch_size": 16,
    "adapt__frozen_layers": 0,
    "eda__clusters": [2, 3],
    "eda__topics": [2, 3],
    "eda__min_document_frequency": 1,
    "eda__tsne_sample": 50,
    "reranker__model": "train",
    "reranker__questions": 40,
    "reranker__frozen_layers": 0,
    "llm__model": "path:models/llm/tiny",
    "lora__r": 4,
    "rows__train_cards": 16,
    "rows__validation_cards": 4,
    "finetune__evaluate_steps": 1,
    "answer__questions": 4,
    "answer__max_new_tokens": 8,
}
"""Changes of params.yaml for a pipeline on the tiny deck and models, see :meth:`conftest.Repository.set_params`."""


def deck(cards: int = 120) -> list[dict[str, str]]:
    """Cards in the published deck's schema, no two alike."""
    rows = []
    for number in range(cards):
        topic, fact = TOPICS[number % len(TOPICS)], FACTS[number // len(TOPICS) % len(FACTS)]
        rows.append(
            {
                "instruction": "Answer this question truthfully",
                "input": f"What should a nurse know about {topic}, case {number}?",
                "output": f"In case {number}, {fact.format(topic)}.",
            }
        )
    return rows


def write_deck(file: Path, cards: int = 120) -> Path:
    file.write_text(json.dumps(deck(cards)), encoding="utf-8")
    return file


def make_wheel(folder: Path, entries: dict[str, str], name: str = "tinydeck", version: str = "1.0") -> str:
    """Write a wheel with the given entries that pip accepts, and return its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for entry, text in entries.items():
            archive.writestr(entry, text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def read_deck_files(path: Path, question: str = "auto", answer: str = "auto") -> tuple:
    """What :func:`medcards.deck.sources.read_files` reads, as one table; and the material."""
    import pandas as pd

    from medcards.deck.sources import read_files

    raw, material = read_files(path, question, answer)
    return pd.concat(raw, ignore_index=True), material


def _texts() -> list[str]:
    return [text for row in deck() for text in (row["input"], row["output"])]


def _word_pieces() -> dict[str, int]:
    """A vocabulary of the deck's words and characters, by id. A trained one differs from process to process."""
    texts = [text.lower() for text in _texts()]
    words = sorted({word for text in texts for word in re.findall(r"[a-z]{2,}", text)})
    characters = sorted({character for text in texts for character in text if not character.isspace()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *characters, *(f"##{character}" for character in characters), *words]
    return {piece: number for number, piece in enumerate(pieces)}


def _bert(folder: Path, architecture: str, seed: int, layers: int = 1, **settings) -> None:
    import torch
    import transformers
    from tokenizers import BertWordPieceTokenizer

    made = BertWordPieceTokenizer(_word_pieces())
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=made._tokenizer, model_max_length=64)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        **settings,
    )
    torch.manual_seed(seed)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_encoder(folder: Path, seed: int = 0, layers: int = 1, **settings) -> Path:
    """A bi-encoder: BERT layers of width 32, mean pooling. Another seed gives other weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    with tempfile.TemporaryDirectory() as scratch:  # a published encoder has its weights once
        _bert(Path(scratch), "BertModel", seed, layers, **settings)
        transformer = modules.Transformer(scratch)
    pooling = modules.Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder))
    return folder


def make_reranker(folder: Path, seed: int = 0) -> Path:
    """A cross-encoder: one BERT layer of width 32, one score. Another seed gives other weights."""
    _bert(folder, "BertForSequenceClassification", seed, num_labels=1)
    return folder


CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def make_llm(
    folder: Path,
    chat_template: str | None = CHAT_TEMPLATE,
    architecture: str = "llama",
    width: int = 64,
    layers: int = 2,
    tokens: tuple[str, ...] = (),
    **named: str | None,
) -> Path:
    """A causal language model: few layers, byte-level BPE; widths fit NF4. It has no padding token.

    ``architecture`` is llama, qwen2 (biased projections) or gpt2 (Conv1D layers instead of linear ones). ``tokens`` are
    more special tokens. ``named`` are those with a name, such as ``pad_token``; by default ``<s>`` begins a text and
    ``</s>`` ends it.
    """
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(_texts(), vocab_size=400, special_tokens=["<s>", "</s>", *tokens], show_progress=False)
    named = {"bos_token": "<s>", "eos_token": "</s>"} | named
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, chat_template=chat_template, **named
    )
    names = {"llama": "Llama", "qwen2": "Qwen2", "gpt2": "GPT2"}
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    if architecture != "gpt2":
        shape |= {"intermediate_size": 2 * width, "num_key_value_heads": 1}
    config = getattr(transformers, f"{names[architecture]}Config")(
        vocab_size=len(tokenizer) + 16,  # transformers reads it as the architecture's own tokenizer, which may add some
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **shape,
    )
    torch.manual_seed(0)
    getattr(transformers, "GPT2LMHeadModel" if architecture == "gpt2" else f"{names[architecture]}ForCausalLM")(
        config
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llm_params(folder: Path, **changes):
    """The block llm, for a model in a folder."""
    from medcards.llm.loading import LlmParams

    auto = dict.fromkeys(("device", "dtype", "attention"), "auto")
    return LlmParams(**({"model": f"path:{folder}", "quantize": "none", "system_prompt": ""} | auto | changes))
