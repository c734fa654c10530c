"""The library that multiplies float32 matrices on a CPU."""

import pytest
import torch

from medcards.base import matmul


@pytest.fixture(autouse=True)
def restored():
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@needs_onednn
@pytest.mark.parametrize(("tolerance", "accurate", "setting"), [(0.0, False, "ieee"), (1.0, True, "bf16")])
def test_onednn_multiplies_only_where_its_error_is_small(monkeypatch, tolerance, accurate, setting):
    monkeypatch.setattr(matmul, "TOLERANCE", tolerance)
    assert matmul.prefer_onednn() == accurate
    assert torch.backends.mkldnn.matmul.fp32_precision == setting
    assert matmul.fastest_attention("cpu") == ("eager" if accurate else None)


def test_products_keep_the_accuracy_of_float32():
    matmul.prefer_onednn()
    one, other = torch.randn(300, 200), torch.randn(200, 100)
    exact = one.double() @ other.double()
    assert (one @ other - exact).abs().max() < 2e-5 * exact.abs().max()


def test_without_onednn_nothing_changes(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not matmul.prefer_onednn() and matmul.fastest_attention("cpu") is None
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_a_gpu_takes_what_transformers_finds():
    assert matmul.fastest_attention("cuda") is None
