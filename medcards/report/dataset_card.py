"""The dataset card: where the deck comes from, what it holds, and its known faults."""

from huggingface_hub import DatasetCardData

from medcards.report.render import render
from medcards.report.results import leaked_share

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LICENCE_OF_ONTOLOGY = "https://hpo.jax.org/app/license"


def dataset_card(metrics: dict[str, dict]) -> str:
    """The card as Markdown with the metadata block of the Hugging Face hub.

    Parameters
    ----------
    metrics : what the stages measured: ``prepare``, ``embed``, ``audit`` and ``eda``.
    """
    prepare = metrics["prepare"]
    material = prepare["material"]
    if material["source"] == "ontology":
        name = "Flashcards from the Human Phenotype Ontology"
        licence = {"license": "other", "license_name": "hpo", "license_link": LICENCE_OF_ONTOLOGY}
    elif material["source"] == "hub":
        name, licence = material["reference"], {"license": material["licence"] or "unknown"}
    else:
        name, licence = "A deck of flashcards", {"license": "unknown"}
    size = next((label for limit, label in SIZES if prepare["cards"] < limit), "n>1M")
    card_data = DatasetCardData(
        pretty_name=name, task_categories=["question-answering"], size_categories=[size], tags=["medical"], **licence
    )
    reasons = sorted(prepare["cleaning"].keys() - {"rows_read", "kept"})
    return render(
        "dataset_card.md.jinja",
        card_data=card_data,
        name=name,
        material=material,
        prepare=prepare,
        cleaning={key: prepare["cleaning"][key] for key in ("rows_read", *reasons, "kept")},
        words={side: metrics["eda"][side]["words"]["quartiles"][1] for side in ("questions", "answers")},
        leak=leaked_share(metrics["audit"], "group", "questions", "bi-encoder"),
        embed=metrics["embed"],
    )
