"""profiles/: every line is accepted by the real xargs and dvc, and every profile replaces the last one whole."""

from pathlib import Path

import pytest
from conftest import Repository
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
PROFILES = sorted((ROOT / "profiles").glob("*.args"))


def settings(profile: Path) -> dict[str, str]:
    """Key and value of every line."""
    lines = profile.read_text().splitlines()
    assert all(line.startswith("-S ") for line in lines), profile
    return dict(line.removeprefix("-S ").split("=") for line in lines)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_all_set_the_same_keys_and_they_exist(profile):
    assert list(settings(profile)) == list(settings(PROFILES[0]))
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for key in settings(profile):
        block, name = key.split(".")
        assert name in params[block]


def test_params_are_written_as_dvc_writes_them(tmp_path):
    """So that after `dvc exp run -S`, `git diff params.yaml` shows the change and nothing else."""
    from dvc.utils.hydra import apply_overrides

    before = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(before)
    apply_overrides(tmp_path / "params.yaml", ["lora.r=17"])
    assert (tmp_path / "params.yaml").read_text() == before.replace("r: 16  # rank", "r: 17  # rank")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Repository:
    return Repository.of_files(tmp_path_factory.mktemp("profiles"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_through_xargs_and_dvc(clone, profile):
    """dvc takes every line, and finds that the first stage has to run."""
    done = clone.run("sh", "-c", f"xargs dvc exp run --dry prepare < profiles/{profile.name}")
    assert clone.stages_run(done.stdout + done.stderr)[0] == "prepare"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_values_arrive_as_they_stand(tmp_path, profile):
    """What `-S` writes into params.yaml is what the profile says, and the stages accept it."""
    from dvc.utils.hydra import apply_overrides

    from medcards import params
    from medcards.answers.systems import EvaluateParams
    from medcards.deck.sources import DataParams
    from medcards.llm.loading import LlmParams
    from medcards.llm.training import FinetuneParams
    from medcards.search.adaptation import AdaptParams
    from medcards.search.cross_encoder_training import RerankerParams
    from medcards.search.encoder import EmbedParams
    from medcards.search.evaluation import RerankEvalParams
    from stages.quantise_eval import QuantiseEvalParams

    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(file, [f"{key}={value}" for key, value in settings(profile).items()])
    blocks = YAML(typ="safe", pure=True).load(file)
    for key, value in settings(profile).items():
        block, name = key.split(".")
        assert blocks[block][name] == YAML(typ="safe", pure=True).load(value)
    kinds = {"data": DataParams, "embed": EmbedParams, "reranker": RerankerParams, "llm": LlmParams}
    kinds |= {"adapt": AdaptParams, "rerank_eval": RerankEvalParams, "finetune": FinetuneParams}
    kinds |= {"evaluate": EvaluateParams, "quantise_eval": QuantiseEvalParams}
    params.load(file, **kinds)
