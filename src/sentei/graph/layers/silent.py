"""What stands in for a deleted branch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sentei.graph.errors import PruneError
from sentei.graph.layers.watch import Call

__all__ = ["Silent"]


class Silent(nn.Module):
    """Stands in for a deleted branch: zeros in the structure that the original returned.

    Other outputs than tensors are returned as they were; inputs that were handed through are
    handed through. Plain attributes (numbers, names, flags) of the original stay readable.
    """

    replaced: str
    _steps: list[tuple[str, Any]]
    _spec: Any

    @staticmethod
    def recipe(call: Call) -> tuple[Any, Any] | None:
        """How to make each output from the inputs; None where that cannot be told."""
        given = pytree.tree_leaves(call.given)
        leaves, spec = pytree.tree_flatten(call.result)
        steps: list[tuple[str, Any]] = []
        for leaf in leaves:
            same = next((i for i, g in enumerate(given) if g is leaf), None)
            if not isinstance(leaf, Tensor):
                handed = same is not None and not isinstance(leaf, (int, float, str, type(None)))
                if not handed and not isinstance(leaf, (int, float, str, type(None))):
                    return None
                steps.append(("input", same) if handed else ("constant", leaf))
                continue
            if same is not None:
                steps.append(("input", same))
                continue
            best: tuple[int, int] | None = None
            for i, g in enumerate(given):
                if isinstance(g, Tensor) and g.is_floating_point():
                    common = 0
                    for a, b in zip(g.shape, leaf.shape, strict=False):
                        if a != b:
                            break
                        common += 1
                    if common and (best is None or common > best[1]):
                        best = i, common
            if best is None:
                if leaf is leaves[0]:
                    return None
                steps.append(("constant", None))  # nobody uses it, or there would be no stand-in
                continue
            steps.append(("zeros", (*best, _sizes(given[best[0]], leaf, best[1]))))
        return steps, spec

    @classmethod
    def of(cls, module: nn.Module, call: Call) -> Silent:
        recipe = cls.recipe(call)
        if recipe is None:
            raise PruneError(
                f"{call.name} ({type(module).__name__}) cannot be replaced: what it returns cannot "
                "be made from what it is given"
            )
        steps, spec = recipe
        return cls.made(module, steps, pytree.tree_unflatten(list(range(len(steps))), spec))

    @classmethod
    def made(cls, module: nn.Module, steps: list[tuple[str, Any]], outputs: Any) -> Silent:
        """In place of `module`; `outputs` is what it returns, with numbers of steps as leaves."""
        made = cls()
        for key, value in vars(module).items():
            if type(value) in (int, float, str, bool) and key not in vars(made):
                vars(made)[key] = value
        for key in module._parameters:
            made.register_parameter(key, None)
        made.replaced = type(module).__name__
        made._steps, made._spec = list(steps), pytree.tree_structure(outputs)
        made.train(module.training)
        # torch's encoder layers read the weights of their parts for a fused kernel, unless a part
        # has a hook.
        made.register_forward_pre_hook(_nothing)
        return made

    @property
    def outputs(self) -> Any:
        """What `forward` returns, with the number of a step in place of each leaf."""
        return pytree.tree_unflatten(list(range(len(self._steps))), self._spec)

    @property
    def steps(self) -> list[tuple[str, Any]]:
        """How each leaf is made: ("constant", value), ("input", number of the leaf among those
        given) or ("zeros", (number, dimensions shared with it, sizes of the others)); a size is
        None where it is that leaf's own: of the picture behind the channels, say."""
        return list(self._steps)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = pytree.tree_leaves((args, kwargs))
        out = []
        for what, value in self._steps:
            if what == "constant":
                out.append(value)
            elif what == "input":
                out.append(given[value])
            else:
                i, common, rest = value
                own = given[i].shape
                sizes = [own[common + j] if n is None else n for j, n in enumerate(rest)]
                out.append(given[i].new_zeros((*own[:common], *sizes)))
        return pytree.tree_unflatten(out, self._spec)

    def extra_repr(self) -> str:
        return f"in place of {self.replaced}"


def _sizes(given: Tensor, made: Tensor, common: int) -> tuple[int | None, ...]:
    """Sizes behind the first `common` dimensions of `made`; None where they are those of `given`,
    which may be others in the next call."""
    like = given.dim() == made.dim()
    return tuple(
        None if like and given.shape[i] == made.shape[i] else int(made.shape[i])
        for i in range(common, made.dim())
    )


def _nothing(*_: Any) -> None:
    """A hook that is only there to be seen."""
