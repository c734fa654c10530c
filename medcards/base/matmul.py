"""The fast way to run a transformer on a CPU: matrix products by the faster of PyTorch's two libraries."""

import torch

TOLERANCE = 1e-5
"""Largest error of a float32 product, as a share of its largest value. bfloat16 has an error of about 1e-3."""


def fastest_attention(device: str) -> str | None:
    """Set up PyTorch's products for a device, and name the attention that is fastest with them.

    PyTorch's fused attention (``sdpa``) becomes several times slower with oneDNN (see :func:`prefer_onednn`).

    Parameters
    ----------
    device : ``cpu`` or ``cuda``.

    Returns
    -------
    ``eager`` where oneDNN multiplies; else None, and transformers chooses.
    """
    return "eager" if device == "cpu" and prefer_onednn() else None


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
