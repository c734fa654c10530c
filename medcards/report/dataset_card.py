"""The dataset card: where the deck comes from, what it holds, what is known to be wrong with it."""

from huggingface_hub import DatasetCard, DatasetCardData

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

ONTOLOGY = """Derived from the Human Phenotype Ontology, release `{release}`, read from
`{reference}`.
One card asks for the definition of each of {definitions:,} current terms ({terms_without_definition:,} terms have
none), in one of four ways of asking; the others ask what a layperson synonym of such a term means. Names, synonyms and
definitions are the ontology's own words; only the questions around them are ours.

## Licence

The ontology's own, <https://hpo.jax.org/app/license>: cite it, show the release, leave its content as it is. Cite:
Gargano MA et al., *The Human Phenotype Ontology in 2024: phenotypes around the world*, Nucleic Acids Research 52
(2024), D1333-D1346."""
HUB = """Read from `{reference}`: {rows:,} rows, sha256 of the content `{sha256_of_content}`.

## Licence

{licence}."""
FILE = """Read from {rows:,} rows in files of the user's own:

{listed}

## Licence

Not known to this project: that of the files above."""

TEMPLATE = """---
{{ card_data }}
---

# {{ pretty_name }}

Written by the report stage from metrics/; do not edit.

{{ provenance }}

## Contents

{{ "{:,}".format(prepare.cards) }} question-answer cards, each with the columns `card_id` (hash of its text),
`question`, `answer`, `group` (cards that must stay together), `concept`, `branch` (of the ontology), `query_set`
(`own`, or `layperson` for everyday wordings) and `source`.

| split | cards | groups | own | layperson | quartiles of answer length (characters) |
|---|---:|---:|---:|---:|---|
{% for name, split in splits.items() -%}
| {{ name }} | {{ split.cards }} | {{ split.groups }} | {{ split.own or 0 }} | {{ split.layperson or 0 }} | \
{{ split.answer_characters_quartiles | join(", ") }} |
{% endfor %}
Questions have {{ words.questions }} words in the middle, answers {{ words.answers }}.

## Cleaning

| what | rows |
|---|---:|
{% for reason, count in cleaning.items() -%}
| {{ reason.replace("_", " ") }} | {{ count }} |
{% endfor %}
Cleaning brings Unicode to its composed form, removes what is invisible, and leaves single spaces. `data/cleaning.md`
shows the first rows of each kind.

## Splits

A group is never split. It holds all cards with an equal question, an equal answer or the same concept, and
near-duplicates, whose words overlap by {{ duplicates.near_duplicate_threshold }} or more
({{ "{:,}".format(duplicates.near_duplicate_pairs) }} pairs; Jaccard similarity, stop words and the question's template
left out). The largest of {{ "{:,}".format(prepare.groups.count) }} groups has {{ prepare.groups.largest }} cards.
Groups are dealt out so that the splits are alike in size, query sets and answer length.

## Known faults

{% if duplicates.near_duplicate_pairs_across_splits -%}
- {{ "{:,}".format(duplicates.near_duplicate_pairs_across_splits) }} of the near-duplicate pairs lie in different
  splits, because groups are limited in size.
{% endif -%}
- {{ "%.1f" | format(100 * leak.mean) }}% of the test questions (95% interval {{ "%.1f" | format(100 * leak.lo) }} to \
{{ "%.1f" | format(100 * leak.hi) }}, n = {{ "{:,}".format(leak.n) }}) have a training question with a cosine similarity
  of 0.9 or more under the bi-encoder.
- {{ "{:,}".format(duplicates.cards_with_equal_question) }} cards share their question with another card, and \
{{ "{:,}".format(duplicates.cards_with_equal_answer) }} their answer.
- {{ embed.answers_cut }} answers are longer than the {{ embed.max_tokens }} tokens that the bi-encoder reads.
{% for fault in faults -%}
- {{ fault }}
{% endfor %}
"""

FAULTS = {
    "ontology": [
        "The questions are made from templates; nobody asked them.",
        "Some definitions only repeat the term's name.",
        "Families of terms differ in one word each, such as the number of a finger.",
    ],
    "hub": ["The answers were written by a language model and were not checked by a physician."],
    "file": [],
}


def dataset_card(metrics: dict[str, dict]) -> str:
    """The card as Markdown with a metadata block (library: huggingface_hub).

    Parameters
    ----------
    metrics : what the stages wrote: ``prepare``, ``embed``, ``audit`` and ``eda``.
    """
    prepare, material = metrics["prepare"], metrics["prepare"]["material"]
    source = material["source"]
    if source == "ontology":
        name, provenance = "Flashcards from the Human Phenotype Ontology", ONTOLOGY.format(**material)
        licence = {"license": "other", "license_name": "hpo", "license_link": "https://hpo.jax.org/app/license"}
    elif source == "hub":
        stated = material["licence"] or "The repository's card states none"
        name, provenance = material["reference"], HUB.format(**material | {"licence": stated})
        licence = {"license": material["licence"] or "unknown"}
    else:
        listed = "\n".join(f"- `{file}`, sha256 `{sha256}`" for file, sha256 in material["files"].items())
        name, provenance = "A deck of flashcards", FILE.format(rows=material["rows"], listed=listed)
        licence = {"license": "unknown"}
    size = next((label for limit, label in SIZES if prepare["cards"] < limit), "n>1M")
    card_data = DatasetCardData(
        pretty_name=name, task_categories=["question-answering"], size_categories=[size], tags=["medical"], **licence
    )
    card = DatasetCard.from_template(
        card_data,
        template_str=TEMPLATE,
        provenance=provenance,
        prepare=prepare,
        duplicates=prepare["duplicates"],
        splits={split: prepare["splits"][split] for split in ("train", "validation", "test")},
        cleaning={key: prepare["cleaning"][key] for key in ("rows_read", *_reasons(prepare["cleaning"]), "kept")},
        words={side: metrics["eda"][side]["words"]["quartiles"][1] for side in ("questions", "answers")},
        leak=metrics["audit"]["group"]["questions"]["bi-encoder"]["leaked@0.9"],
        embed=metrics["embed"],
        faults=FAULTS[source],
    )
    return str(card).rstrip("\n") + "\n"


def _reasons(cleaning: dict[str, int]) -> list[str]:
    return sorted(cleaning.keys() - {"rows_read", "kept"})
