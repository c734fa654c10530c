"""A bi-encoder with a prompt for queries and one for documents, as those of E5, BGE and Qwen3-Embedding."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import tiny
from search_material import deck

from medcards.base.files import read_json, write_json
from medcards.deck import cards as card_tables
from medcards.search.encoder import embed_cards, load_encoder

QUERY, PASSAGE = "fever asthma query: ", "gout passage: "


def make_encoder_with_prompts(folder, **prompts):
    """The names of the prompts are those of E5: sentence-transformers alone leaves ``passage`` out."""
    tiny.make_encoder(folder, initializer_range=1.0)
    settings = read_json(folder / "config_sentence_transformers.json")
    settings["prompts"] = prompts or {"query": QUERY, "passage": PASSAGE}
    write_json(folder / "config_sentence_transformers.json", settings)
    return folder


def plain_vectors(folder, texts, prompt):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", prompts={"query": "", "document": "", "passage": ""})
    return model.encode([prompt + text for text in texts], normalize_embeddings=True)


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_questions_are_encoded_as_queries_and_answers_as_documents(tmp_path, name):
    table = deck()
    folder = make_encoder_with_prompts(tmp_path, query=QUERY, **{name: PASSAGE})
    vectors, answers = embed_cards(load_encoder(folder), table), card_tables.corpus(table).answer.tolist()
    asked = table.question.tolist()
    assert vectors.questions == pytest.approx(plain_vectors(folder, asked, QUERY), abs=1e-5)
    assert vectors.answers == pytest.approx(plain_vectors(folder, answers, PASSAGE), abs=1e-5)
    assert vectors.questions != pytest.approx(plain_vectors(folder, asked, ""), abs=1e-2)


def test_the_lengths_of_texts_count_the_prompt(tmp_path):
    """A text is cut after its prompt, so it is cut earlier."""
    table, model = deck(), load_encoder(make_encoder_with_prompts(tmp_path))
    prompted = embed_cards(model, table)
    model.prompts = {}
    plain = embed_cards(model, table)
    for side in ("question_tokens", "answer_tokens"):
        more = getattr(prompted, side) - getattr(plain, side)
        assert len(set(more)) == 1 and more[0] > 0


def test_the_exported_encoder_reads_a_question_after_its_prompt(tmp_path):
    from medcards.search.encoder import encode_questions
    from medcards.search.exported import ExportedModel
    from medcards.search.onnx_export import export_to_onnx

    model = load_encoder(make_encoder_with_prompts(tmp_path / "model"))
    export_to_onnx(model, partial(encode_questions, model), tmp_path / "onnx")
    asked = ["What is gout?", "asthma"]
    found = ExportedModel(tmp_path / "onnx")(asked)
    assert found == pytest.approx(plain_vectors(tmp_path / "model", asked, QUERY), abs=1e-4)


def test_pytorch_runs_an_encoder_that_leaves_its_prompt_out_of_the_mean(tmp_path, monkeypatch, caplog):
    """As those of Instructor do. The exported model would count the tokens of the prompt."""
    from medcards.base.manifests import write_manifest
    from medcards.search.encoder import encode_questions
    from medcards.search.exported import search_encoder

    monkeypatch.setenv("MEDCARDS_CACHE", str(tmp_path / "cache"))
    folder = make_encoder_with_prompts(tmp_path / "model")
    pooling = next(folder.glob("1_Pooling/config.json"))
    write_json(pooling, read_json(pooling) | {"include_prompt": False})
    write_manifest(tmp_path / "encoder", f"path:{folder}")
    asked = ["What is gout?", "asthma"]
    found = search_encoder(tmp_path / "encoder")(asked)
    assert "PyTorch runs the bi-encoder, which starts slowly: after its export" in caplog.text
    assert np.array_equal(found, encode_questions(load_encoder(folder), asked))


def test_the_fine_tuning_of_the_encoder_reads_prompts(tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    from medcards.search.adaptation import AdaptParams, adapt

    table, model = deck(), load_encoder(make_encoder_with_prompts(tmp_path / "model"))
    vectors, read, usual = embed_cards(model, table), set(), SentenceTransformer.preprocess

    def preprocess(self, texts, **options):
        if "prompt" in options:  # a batch, and not an example for the model card
            read.update((text, options["prompt"]) for text in texts)
        return usual(self, texts, **options)

    monkeypatch.setattr(SentenceTransformer, "preprocess", preprocess)
    settings = {"questions": 20, "negatives": 2, "epochs": 1.0, "batch_size": 4, "learning_rate": 1e-3}
    params = AdaptParams(**settings, frozen_layers=0, max_tokens=64, projection_epochs=0, enabled=True)
    adapt(model, table, vectors, params, 1, tmp_path / "scratch")
    questions, answers = set(table.question), set(table.answer)
    assert {prompt for text, prompt in read if text in questions} == {QUERY}
    assert {prompt for text, prompt in read if text in answers} == {PASSAGE}


def test_an_answer_and_its_reference_are_compared_as_documents(tmp_path):
    from medcards.answers.scores import TermWeights, answer_scores

    folder = make_encoder_with_prompts(tmp_path)
    answers = pd.DataFrame({"question": ["What is gout?"], "reference": ["a fever"], "answers": [{"echo": "gout"}]})
    answers = answers.assign(nll=[{}], truncated=[{}])
    scores = answer_scores(answers, TermWeights(pd.Series(["a fever", "gout"])), load_encoder(folder))
    one, other = plain_vectors(folder, ["gout", "a fever"], PASSAGE)
    assert scores["echo"].similarity[0] == pytest.approx(float(one @ other), abs=1e-5)


def test_embed_and_search_read_prompts(repository):
    """From the stage embed to a search, with an encoder that is fine-tuned and has a linear layer."""
    from medcards.search import Searcher

    folder = repository.folder / "models/encoder/tiny"
    make_encoder_with_prompts(folder)
    repository.set_params(reranker__model="none")
    for stage in ("models", "prepare", "embed", "adapt", "index", "rerank_train", "rerank_eval"):
        repository.run_here(stage)
    data = repository.folder / "data"
    table = card_tables.load_cards(data / "cards")
    answers = card_tables.corpus(table).answer.tolist()
    for name, texts, prompt in (("questions", table.question.tolist(), QUERY), ("answers", answers, PASSAGE)):
        kept = np.load(data / f"vectors/{name}-00001.npy")
        assert kept == pytest.approx(plain_vectors(folder, texts, prompt), abs=1e-5)

    question = "How is gout treated?"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository.folder)
        hits = Searcher.load(data).search(question, k=50)
    hit = next(hit for hit in hits if "hnsw" in hit.scores)  # BM25 alone may have found the first one
    adapted = data / "encoder/model"
    asked, found = plain_vectors(adapted, [question], QUERY), plain_vectors(adapted, [hit.answer], PASSAGE)
    assert hit.scores["hnsw"] == pytest.approx(float(asked[0] @ found[0]), abs=1e-3)
