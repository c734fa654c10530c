"""The fast way to run a transformer on a CPU: matrix products by the faster of PyTorch's two libraries."""

import torch

TOLERANCE = 1e-5
"""Largest error of a float32 product, as a share of its largest value. bfloat16 has an error of about 1e-3."""


def attention_on(device: str) -> str | None:
    """The attention with which a transformer loads, after PyTorch's products are set up for the device.

    On a CPU it is ``eager``, because PyTorch's fused attention (``sdpa``) becomes several times slower with oneDNN (see
    :func:`prefer_onednn`). On a GPU it is None: transformers chooses.

    Parameters
    ----------
    device : ``cpu`` or ``cuda``.
    """
    if device != "cpu":
        return None
    prefer_onednn()
    return "eager"


def prefer_onednn() -> bool:
    """Let oneDNN multiply float32 matrices, if it keeps float32's accuracy on this processor.

    PyTorch multiplies float32 with MKL, which has no AVX-512 kernels for AMD's processors. oneDNN has: products are
    about twice as fast there. The setting allows oneDNN to compute in bfloat16. It does so on some processors only, and
    this function measures the error of a product: on those processors MKL stays.

    Returns
    -------
    whether oneDNN multiplies from now on.
    """
    if not torch.backends.mkldnn.is_available():  # for example on macOS
        return False
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = one.double() @ other.double()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    accurate = bool((one @ other - exact).abs().max() <= TOLERANCE * exact.abs().max())
    if not accurate:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    return accurate
