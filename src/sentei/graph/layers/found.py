"""What can be deleted: `Layer` and the mapping of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sentei.graph.errors import closest
from sentei.graph.layers.watch import Seen
from sentei.graph.verify import Verification

__all__ = ["Layer", "Layers"]


@dataclass(frozen=True)
class Layer:
    """A unit of depth.

    name: of the module. kind: "layer" or "branch".
    params, macs: what its deletion saves, on the example input.
    exact: its deletion is exactly the original with the branches times zero; otherwise something
        that followed the sum goes as well.
    modules: what is taken out or replaced.
    verification: of a deleted layer, how the model without it compares with the original silenced.
    """

    name: str
    kind: str
    params: int
    macs: int
    exact: bool
    modules: tuple[str, ...] = field(repr=False)
    _zeros: tuple[tuple[int, int], ...] = field(repr=False)  # (operator, operand) to silence
    verification: Verification | None = field(default=None, repr=False)


class Layers(Mapping[str, Layer]):
    """The layers and branches that can be deleted, by name; prints as a table."""

    def __init__(self, found: Mapping[str, Layer], seen: Seen) -> None:
        self._found = dict(found)
        self._seen = seen

    def __getitem__(self, name: str) -> Layer:
        if name not in self._found:
            raise KeyError(f"no layer {name!r}; {closest(name, self._found)}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        rows = [("layer", "kind", "params", "MACs", "deletion")]
        for layer in self.values():
            exact = "exact" if layer.exact else "exact but for what follows the sum"
            rows.append((layer.name, layer.kind, f"{layer.params:,}", f"{layer.macs:,}", exact))
        wide = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}  {e}"
            for a, b, c, d, e in rows
        )
