"""The benchmarks' framework: times in turns, medians, ratios, exponents, tables, and the command's help."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import cost_model
from benchmarks.flops import forward_flops, output_flops, training_flops
from benchmarks.growth import exponent, growth_table
from benchmarks.made_decks import recombined
from benchmarks.material import paired
from benchmarks.measure import Benchmark, Way, measure
from benchmarks.page import results_table
from benchmarks.run import BENCHMARKS

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that moves only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def same_matmul():
    """Other tests multiply as before."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


@pytest.fixture
def measured() -> list:
    """Two ways to add numbers. The plain one takes 6, 8 and 20 seconds, the other 2, 4 and 3."""
    clock, order = Clock(), []
    times = {"plain": iter([6, 8, 20]), "other": iter([2, 4, 3])}

    def way(name: str, total: int) -> Way:
        def run(prepared: int) -> int:
            order.append(name)
            clock.pass_(next(times[name]))
            return total + prepared

        def prepare() -> int:
            clock.pass_(100)  # is not timed
            return 1

        return Way(run, prepare)

    benchmark = Benchmark(
        title="sums",
        work="3 numbers",
        ways={"plain": way("plain", 5), "other": way("other", 6)},
        quality=lambda one, other: {"difference": f"{other - one:+d}"},
        amount=40,
        unit="numbers",
        flops=lambda result: 2e9 * result,
    )
    found = measure(benchmark, repeats=3, limits={"default": 2e9, "ours": 4e9}, clock=clock)
    assert order == ["plain", "other"] * 3
    return found


def test_the_median_is_that_of_the_runs_and_the_ratio_that_of_the_medians(measured):
    plain, other = measured
    assert (plain.median, other.median) == (8, 3)
    assert plain.ratio == 1
    assert other.ratio == pytest.approx(8 / 3)


def test_the_quality_compares_with_the_plain_result(measured):
    plain, other = measured
    assert plain.quality == {}
    assert other.quality == {"difference": "+1"}


def test_the_share_of_the_limit_is_counted_from_the_larger_rate(measured):
    # The plain result is 6, so the work takes 12e9 operations; 12e9 / 8 s = 1.5e9 per second, of 4e9.
    assert measured[0].share_of_limit == pytest.approx(0.375)
    assert measured[1].share_of_limit == pytest.approx(1.0)


def test_the_table_has_a_row_per_way(measured):
    assert results_table(measured) == [
        "| work | way | median s | × plain | per second | of the limit | quality against the plain way |",
        "|---|---|---:|---:|---:|---:|---|",
        "| sums: 3 numbers | plain | 8.00 | 1.00 | 5.0 numbers | 38% |  |",
        "| sums: 3 numbers | other | 3.00 | 2.67 | 13 numbers | 100% | difference +1 |",
    ]


def test_the_plain_way_multiplies_with_pytorchs_defaults():
    def precision(_: object) -> str:
        return torch.backends.mkldnn.matmul.fp32_precision

    seen = []
    ways = {name: Way(lambda made: seen.append(precision(made)), ours=name == "ours") for name in ("plain", "ours")}
    measure(Benchmark("matmul", "", ways), 2, {"default": 1.0})
    assert seen[0::2] == ["ieee", "ieee"]
    assert seen[1] == seen[3]


@pytest.mark.parametrize(
    ("seconds", "slope"),
    [([1, 2, 4], 1.0), ([3, 3, 3], 0.0), ([1, 4, 16], 2.0), ([1, 1, 4], 1.0)],  # the last: (-1*0 + 0*0 + 1*2) / 2
)
def test_the_exponent_is_the_slope_of_the_logarithms(seconds, slope):
    assert exponent([2000, 4000, 8000], seconds) == pytest.approx(slope)


def test_a_difference_is_printed_with_its_interval():
    asked = pd.DataFrame({"group": ["a", "b"]})
    assert paired(asked, np.array([0.5, 0.25]), np.array([0.75, 0.5]), seed=0) == "+0.2500 [0.2500, 0.2500]"


class TwoLayers(torch.nn.Module):
    """Two layers of 6 x 6 weights, one head of width 6, an output of 10 words."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(2)])
        self.head = torch.nn.Linear(6, 10)
        self.config = type("Config", (), {"num_attention_heads": 1, "hidden_size": 6})

    def get_output_embeddings(self):
        return self.head


def test_flops_are_counted_from_layers_and_lengths():
    model = TwoLayers()
    # Linear: 2 x 72 weights x 5 tokens = 720. Attention: 4 x 6 x 2 layers x (2² + 3²) = 624, or half of it.
    assert forward_flops(model, [2, 3]) == 720 + 624
    assert forward_flops(model, [2, 3], causal=True) == 720 + 312
    assert training_flops(model, [2, 3], frozen_layers=1) == 2 * (720 + 624)
    assert output_flops(model, 4) == 2 * 60 * 4


def test_growth_has_seconds_and_memory_by_deck_and_the_exponent():
    rows = pd.DataFrame(
        {
            "stage": ["index", "index", "index", "eda"],
            "cards": [2000, 4000, 8000, 2000],
            "seconds": [1.0, 1.0, 4.0, 5.0],
            "peak_memory_mb": [100, 200, 1400, 50],
        }
    )
    assert growth_table(rows, [2000, 4000, 8000]) == [
        "| stage | 2,000 | 4,000 | 8,000 | exponent | of the last two |",
        "|---|---:|---:|---:|---:|---:|",
        "| index | 1.0 s, 100 MB | 1.0 s, 200 MB | 4.0 s, 1,400 MB | 1.00 | 2.00 |",
        "| eda | 5.0 s, 50 MB | – | – | – | – |",
    ]


def measured_stages() -> pd.DataFrame:
    """prepare takes 2 s and 1e-8 s per pair of cards; embed 1 ms per card.

    Memory and disk space are linear, but for the memory of embed, which keeps 100,000 cards at most.
    """
    rows = []
    for cards in (2000, 8000, 32_000, 128_000, 256_000):
        costs = {"cards": cards, "peak_memory_mb": 100 + cards / 1000, "disk_mb": cards / 500}
        rows += [
            costs | {"stage": "prepare", "seconds": 2 + 1e-8 * cards**2},
            costs | {"stage": "embed", "seconds": cards / 1000, "peak_memory_mb": 100 + min(cards, 100_000) / 1000},
        ]
    rows[4]["seconds"] = 24.48  # prepare of 32,000 cards took twice as long as its law says
    return pd.DataFrame(rows)


def test_the_cost_model_extrapolates_its_laws():
    """A million cards take 2 + 10,000 s and 1,000 s. embed on a machine that is 10 times as fast takes 100 s."""
    model = cost_model.fit(measured_stages())
    *lines, total = cost_model.cost_table(model, 1_000_000, speed_up=10, price=2, flops=5e12)
    assert lines[2:4] == ["| prepare | 10,002.0 | 1,100 | 2,000 |", "| embed | 100.0 | 200 | 2,000 |"]
    assert total == "2.8 hours, 5.61 in price. embed takes 5 TFLOP."


def test_the_cost_model_is_checked_on_decks_that_it_does_not_know():
    rows = measured_stages()
    table = cost_model.check_table(cost_model.fit(rows), rows)
    assert table[2:] == [
        "| 32,000 | prepare | 24.5 | 12.2 | -50% |",
        "| 32,000 | embed | 32.0 | 32.0 | +0% |",
        "| 32,000 | all of them | 56.5 | 44.2 | -22% |",
        "| 256,000 | prepare | 657.4 | 657.4 | +0% |",
        "| 256,000 | embed | 256.0 | 256.0 | +0% |",
        "| 256,000 | all of them | 913.4 | 913.4 | +0% |",
    ]


def test_a_made_text_takes_the_word_at_each_place_from_any_text():
    texts, parts = np.array(["a b c", "d e"], dtype=object), np.array([[0, 1]] * 50)
    made = set(recombined(texts, parts, np.random.default_rng(0)))
    assert made == {"a b c", "a e c", "d b c", "d e c"}


def test_help_lists_every_benchmark_within_a_second():
    before = os.times()
    done = subprocess.run([sys.executable, "-m", "benchmarks.run", "--help"], cwd=ROOT, capture_output=True, text=True)
    after = os.times()  # seconds of the processor, which do not depend on what else runs
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
    assert done.returncode == 0, done.stderr
    modules = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "def benchmarks(" in file.read_text()}
    assert set(BENCHMARKS) == modules
    assert all(f"  {name} " in done.stdout for name in modules)


def test_an_unfinished_run_is_said_in_one_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", "start_up"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "params.yaml is missing" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("run", ["nosuch"], "no such benchmark: nosuch; benchmarks: near_duplicates, embed"),
        ("run", ["embed", "--repeats", "0"], "--repeats: 0: at least 1"),
        ("run", ["embed", "--cards", "-5"], "--cards: -5: at least 1"),
        ("growth", ["--largest", "100"], "--smallest, --largest: leave one of 2000"),
        ("growth", ["--limit", "-1"], "--limit: above 0"),
    ],
)
def test_wrong_arguments_are_one_line(monkeypatch, capsys, module, arguments, says):
    monkeypatch.setattr("sys.argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{module}").main()
    assert ended.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]
