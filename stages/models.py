"""models: note which models params.yaml names, with hub branches pinned and the files of own models hashed.

No other stage depends on the folder models/. A file there that no parameter names runs this stage again, which takes a
second, and no other stage. A hub branch stays pinned until `dvc repro -f models` asks the hub again.

reads   models/
writes  data/models/{encoder,reranker,llm}.json
"""

from medcards.base.files import atomic, write_json
from medcards.base.manifests import NamesModel, pin_model
from stages import DATA, load_params, run


def main() -> None:
    embed, reranker, llm = load_params(embed=NamesModel, reranker=NamesModel, llm=NamesModel)
    pinned = {
        role: pin_model(block, role) for role, block in (("encoder", embed), ("reranker", reranker), ("llm", llm))
    }
    pinned["llm"]["llm"] = llm.model_dump() | {"model": pinned["llm"]["model"]}  # `ask` reads the whole block
    with atomic(DATA / "models") as folder:
        folder.mkdir()
        for role, facts in pinned.items():
            write_json(folder / f"{role}.json", facts)


if __name__ == "__main__":
    run("models", main)
