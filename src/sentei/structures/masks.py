"""Masks: which single weights stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest

__all__ = ["Masks"]


class Masks(Mapping[str, Tensor]):
    """Parameter name -> bool tensor of its shape; True stays. A value: operations give new ones.

    `apply_` sets what is masked to zero now, `attach` after every step of an optimiser as well,
    `save` and `Masks.load` keep it; `&` and `|` merge. Units that are left without effect are taken
    out physically by `sentei.shrink`.

    >>> masks = Masks({"weight": torch.tensor([[True, False, True]])})
    >>> masks.kept, masks.total, round(masks.density, 3)
    (2, 3, 0.667)
    >>> layer = nn.Linear(3, 1)
    >>> masks.apply_(layer)
    >>> (layer.weight == 0).tolist()
    [[False, True, False]]
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        for name, mask in masks.items():
            if mask.dtype is not torch.bool:
                raise PruneError(f"the mask of {name!r} must be boolean; got {mask.dtype}")
        self._masks = dict(masks)

    @staticmethod
    def full(weights: Mapping[str, Tensor]) -> Masks:
        """Masks that keep everything."""
        return Masks({n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()})

    @staticmethod
    def of_zeros(weights: Mapping[str, Tensor]) -> Masks:
        """The masks that weights already show: what is not exactly zero stays."""
        return Masks({n: w.detach() != 0 for n, w in weights.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        return f"Masks({len(self)} weights, {self.kept:,} of {self.total:,} kept)"

    @property
    def kept(self) -> int:
        return sum(int(m.sum()) for m in self.values())

    @property
    def total(self) -> int:
        return sum(m.numel() for m in self.values())

    @property
    def density(self) -> float:
        """Share kept, in [0, 1]; 1 without any weight."""
        return self.kept / self.total if self.total else 1.0

    @property
    def sparsity(self) -> float:
        """Share removed, in [0, 1]."""
        return 1.0 - self.density

    def densities(self) -> dict[str, float]:
        """Share kept, by parameter."""
        return {n: int(m.sum()) / m.numel() for n, m in self.items()}

    def __and__(self, other: Masks) -> Masks:
        """What both keep; a parameter only one names is as that one says."""
        return self._merge(other, torch.logical_and)

    def __or__(self, other: Masks) -> Masks:
        """What either keeps; a parameter only one names is as that one says."""
        return self._merge(other, torch.logical_or)

    def _merge(self, other: Masks, how) -> Masks:
        merged = {**self, **other}
        for name in self.keys() & other.keys():
            if self[name].shape != other[name].shape:
                raise PruneError(
                    f"masks of {name!r} differ in shape: {tuple(self[name].shape)} and "
                    f"{tuple(other[name].shape)}"
                )
            merged[name] = how(self[name], other[name].to(self[name].device))
        return Masks(merged)

    def equal(self, other: Masks) -> bool:
        """Whether both keep the same weights of the same parameters."""
        return self.keys() == other.keys() and all(
            torch.equal(m, other[n]) for n, m in self.items()
        )

    def apply_(self, model: nn.Module) -> None:
        """Set what is masked to exactly zero, in place.

        Raises:
            PruneError: the model has no such parameter, or it has another shape.
        """
        parameters = _named(model)
        with torch.no_grad():
            for name, mask in self.items():
                weight = parameters.get(name)
                if weight is None:
                    raise PruneError(
                        f"mask of {name!r}: the model has no such parameter; "
                        f"{closest(name, parameters)}"
                    )
                if weight.shape != mask.shape:
                    raise PruneError(
                        f"mask of {name!r} has shape {tuple(mask.shape)}, the parameter "
                        f"{tuple(weight.shape)}"
                    )
                if mask.device != weight.device:
                    mask = self._masks[name] = mask.to(weight.device)
                # A product would keep NaN and give -0.0.
                weight.masked_fill_(~mask, 0.0)

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Zero what is masked, now and after every step of the optimiser: a loop needs no more.

        Parameters stay parameters of the same names, so a state dictionary is what it was. To hold
        other masks, remove the handle and attach those.

        Returns:
            a handle whose `remove()` ends it; what is zero stays so until it is trained.
        Raises:
            PruneError: as `apply_`.

        >>> layer = nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        >>> handle = Masks({"weight": torch.tensor([[True, False]])}).attach(layer, optimizer)
        >>> for _ in range(3):
        ...     layer(torch.ones(1, 2)).sum().backward(); optimizer.step()
        >>> layer.weight[0, 1].item()
        0.0
        """
        held = self.held(model)

        def zero(*_: Any) -> None:
            for weight, bits in held:
                weight.data.view(bits.dtype).bitwise_and_(bits)

        return optimizer.register_step_post_hook(zero)

    def held(self, model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
        """Applies them; then each parameter beside the bits that are to be left of it: all where a
        weight stays, none where it goes.

        A bitwise "and" is as exact as filling in zeros (a product would keep NaN and give -0.0),
        and several times as fast: a step should cost next to nothing.
        """
        self.apply_(model)
        weights = _named(model)
        return [
            (weights[n], -m.to(weights[n].device, _INTEGERS[weights[n].element_size()]))
            for n, m in self.items()
        ]

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, all at once; read it with `Masks.load`."""
        from safetensors.torch import save

        from sentei.storage.atomic import write_file

        return write_file(path, save({n: m.cpu().contiguous() for n, m in self.items()}))

    @staticmethod
    def load(path: str | Path) -> Masks:
        """Read what `save` wrote.

        Raises:
            PruneError: there is no such file, it is damaged, or something in it is not a mask.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return Masks(load_file(str(path)))
        except (OSError, SafetensorError) as error:
            raise PruneError(f"cannot read masks from {path}: {error}") from error

    def only(self, names: Iterable[str]) -> Masks:
        """The masks of these parameters."""
        return Masks({n: self[n] for n in names})


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(unwrap(model).named_parameters(remove_duplicate=False))
