"""Cost formulas compiled to arrays: one evaluation is a gather, a product and a sum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sentei.graph.axis import Dim
from sentei.graph.ties import Poly

__all__ = ["Formula"]


class Formula:
    """A polynomial in the widths of `dims`, as arrays by degree; other dims keep their size.

    >>> a, b = Dim(4), Dim(6)
    >>> formula = Formula(Poly.variable(a) * Poly.variable(b) + Poly.variable(a), {a: 0, b: 1})
    >>> formula(np.array([2, 3]))
    8
    """

    def __init__(self, poly: Poly, dims: Mapping[Dim, int]) -> None:
        merged: dict[tuple[int, ...], int] = {}
        top = 0
        for monomial, coefficient in poly.terms:
            places = []
            whole = coefficient
            for dim in monomial:
                whole *= dim.size
                if dim in dims:
                    places.append(dims[dim])
                else:
                    coefficient *= dim.size
            top += abs(whole)
            key = tuple(sorted(places))
            merged[key] = merged.get(key, 0) + coefficient
        # 70 billion parameters on a long context still fit 63 bits; what does not is exact anyway.
        self.dtype = np.int64 if top < 2**62 else object
        by_degree: dict[int, list[tuple[tuple[int, ...], int]]] = {}
        for key, coefficient in merged.items():
            by_degree.setdefault(len(key), []).append((key, coefficient))
        self.constant = merged.get((), 0)
        self.terms = [
            (
                np.array([c for _, c in terms], dtype=self.dtype),
                np.array([key for key, _ in terms], dtype=np.intp),
            )
            for degree, terms in sorted(by_degree.items())
            if degree
        ]

    def __call__(self, widths: np.ndarray) -> int:
        widths = widths.astype(self.dtype, copy=False)
        total = self.constant
        for coefficients, places in self.terms:
            total += int((coefficients * widths[places].prod(axis=1)).sum())
        return total
