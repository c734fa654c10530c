"""quantise_eval: the tuned model answers the same questions on a full, an int8 and an NF4 base.

It is off by default; `-S quantise_eval.bases=[none,int8,nf4]` turns it on. The adapter is the one that finetune
trained. The block `answer` says which questions are asked, and how they are answered. The stage evaluate scores the
answers.

reads   data/cards, data/adapter, data/models/llm.json
writes  data/quantisation (bases.json: bytes of each base; answers.jsonl where a base is asked for),
        data/figures/quantise_eval
"""

from medcards.answers.quantisation import QuantiseEvalParams, answer_on_base
from medcards.answers.records import AnswerParams, write_answers
from medcards.base.files import atomic, write_json
from medcards.base.manifests import pinned_model
from medcards.base.params import Seed
from medcards.deck import cards as card_tables
from medcards.llm.params import LlmParams
from stages import DATA, figures, load_params, run


def main() -> dict:
    seed, llm, params, asked = load_params(
        seed=Seed, llm=LlmParams, answer=AnswerParams, quantise_eval=QuantiseEvalParams
    )
    llm = llm.model_copy(update={"model": pinned_model(DATA, "llm")})
    questions = params.asked(card_tables.load_cards(DATA / "cards"), seed)
    results = {
        base: answer_on_base(questions, llm.model_copy(update={"quantize": base}), DATA / "adapter", params)
        for base in dict.fromkeys(asked.bases)
    }
    sizes = {base: result.base_bytes for base, result in results.items()}
    with atomic(DATA / "quantisation") as folder:
        write_json(folder / "bases.json", sizes)
        if results:
            table = questions[["card_id", "question"]].assign(reference=questions.answer)
            write_answers(table, {base: result.answers for base, result in results.items()}, folder / "answers.jsonl")
    with figures("quantise_eval") as folder:
        write_json(folder / "metrics.json", {"base_bytes": sizes})
    return {"tokens_per_second": {base: result.tokens_per_second for base, result in results.items()}}


if __name__ == "__main__":
    run("quantise_eval", main)
