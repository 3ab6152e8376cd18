"""Fourier transforms, and complex numbers as pairs: only the dimensions transformed are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentei.graph.rules.base import Traced, aten, data, pin, rule


def _transformed(x: Traced, dims: Sequence[int]) -> Any:
    """The other dimensions pass: the transform of a removed unit's zeros is zero."""
    axes: list[Any] = list(x.axes)
    for i in dims:
        pin(axes[i], "a Fourier transform mixes its positions")
        axes[i] = None
    return axes


@rule(aten.fft_fft, aten.fft_ifft, aten.fft_rfft, aten.fft_irfft, aten.fft_hfft, aten.fft_ihfft)
def _(x: Traced, n: Any = None, dim: int = -1, norm: Any = None) -> Any:
    return _transformed(x, [dim])


@rule(aten.fft_fft2, aten.fft_ifft2, aten.fft_rfft2, aten.fft_irfft2, aten.fft_hfft2,
      aten.fft_ihfft2)  # fmt: skip
def _(x: Traced, s: Any = None, dim: Sequence[int] = (-2, -1), norm: Any = None) -> Any:
    return _transformed(x, dim)


@rule(aten.fft_fftn, aten.fft_ifftn, aten.fft_rfftn, aten.fft_irfftn, aten.fft_hfftn,
      aten.fft_ihfftn)  # fmt: skip
def _(x: Traced, s: Any = None, dim: Sequence[int] | None = None, norm: Any = None) -> Any:
    last = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    return _transformed(x, last if dim is None else dim)


@rule(aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)
def _(x: Traced, dim: Sequence[int], *_: Any) -> Any:
    return _transformed(x, dim)


@rule(aten.fft_fftshift, aten.fft_ifftshift)
def _(x: Traced, dim: Sequence[int] | None = None) -> Any:
    return _transformed(x, range(x.ndim) if dim is None else dim)


@rule(aten.view_as_complex)
def _(x: Traced) -> Any:
    pin(x.axes[-1], "real and imaginary parts")
    return x.axes[:-1]


@rule(aten.view_as_real)
def _(x: Traced) -> Any:
    return [*x.axes, data(2, "real and imaginary parts")]
