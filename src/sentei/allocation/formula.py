"""Cost formulas compiled to arrays: one evaluation is a gather, a product and a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sentei.graph.axis import Dim
from sentei.graph.ties import Poly

__all__ = ["Formula", "Formulas", "Peak"]


class Formulas:
    """Polynomials in the widths of `dims`, evaluated together; other dims keep their size.

    >>> a, b = Dim(4), Dim(6)
    >>> formulas = Formulas([Poly.variable(a) * Poly.variable(b), Poly.constant(5)], {a: 0, b: 1})
    >>> formulas(np.array([2, 3])).tolist()
    [6, 5]
    """

    def __init__(self, polys: Sequence[Poly], dims: Mapping[Dim, int]) -> None:
        merged: dict[tuple[int, tuple[int, ...]], int] = {}
        top = 0
        for row, poly in enumerate(polys):
            most = 0
            for monomial, coefficient in poly.terms:
                places = []
                whole = coefficient
                for dim in monomial:
                    whole *= dim.size
                    if dim in dims:
                        places.append(dims[dim])
                    else:
                        coefficient *= dim.size
                most += abs(whole)
                key = row, tuple(sorted(places))
                merged[key] = merged.get(key, 0) + coefficient
            top = max(top, most)
        # 70 billion parameters on a long context still fit 63 bits; what does not is exact anyway.
        self.dtype = np.int64 if top < 2**62 else object
        self.constants = np.array(
            [merged.get((row, ()), 0) for row in range(len(polys))], dtype=self.dtype
        )
        by_degree: dict[int, list[tuple[int, tuple[int, ...], int]]] = {}
        for (row, places), coefficient in merged.items():
            if places:
                by_degree.setdefault(len(places), []).append((row, places, coefficient))
        self.terms = [
            (
                np.array([row for row, _, _ in terms], dtype=np.intp),
                np.array([c for _, _, c in terms], dtype=self.dtype),
                np.array([places for _, places, _ in terms], dtype=np.intp),
            )
            for _, terms in sorted(by_degree.items())
        ]

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        widths = widths.astype(self.dtype, copy=False)
        total = self.constants.copy()
        for rows, coefficients, places in self.terms:
            np.add.at(total, rows, coefficients * widths[places].prod(axis=1))
        return total


class Peak:
    """The largest of several polynomials in the widths of `dims`.

    >>> a, b = Dim(4), Dim(6)
    >>> peak = Peak([Poly.variable(a) * Poly.variable(b), Poly.constant(5)], {a: 0, b: 1})
    >>> peak(np.array([2, 3])), peak(np.array([2, 2]))
    (6, 5)
    """

    def __init__(self, polys: Sequence[Poly], dims: Mapping[Dim, int]) -> None:
        self.formulas = Formulas(polys, dims)

    def __call__(self, widths: np.ndarray) -> int:
        return int(self.formulas(widths).max())


class Formula(Formulas):
    """A polynomial in the widths of `dims`, as arrays by degree; other dims keep their size.

    >>> a, b = Dim(4), Dim(6)
    >>> formula = Formula(Poly.variable(a) * Poly.variable(b) + Poly.variable(a), {a: 0, b: 1})
    >>> formula(np.array([2, 3]))
    8
    """

    def __init__(self, poly: Poly, dims: Mapping[Dim, int]) -> None:
        super().__init__([poly], dims)

    def __call__(self, widths: np.ndarray) -> int:  # type: ignore[override]
        widths = widths.astype(self.dtype, copy=False)
        total = self.constants[0]
        for _, coefficients, places in self.terms:
            total += (coefficients * widths[places].prod(axis=1)).sum()
        return int(total)
