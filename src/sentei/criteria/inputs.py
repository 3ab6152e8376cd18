"""What goes into each weight: the inputs of every matrix product, convolution and recurrence.

Seen at the operators, not at modules, so that functional code, attention and shared weights are
covered alike. `OPERATORS` says how each operator multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.batches import Batch, forward, to_device
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError

__all__ = ["OPERATORS", "RECURRENT", "Use", "first_user", "observe", "order"]


@dataclass(frozen=True)
class Use:
    """One product of a weight with its inputs.

    inputs: (groups, tokens, columns): what each row of the weight is multiplied with; tokens are
        all positions of all examples, and kernels see their patches unfolded.
    groups: 1, or those of a grouped convolution. transposed: the weight is (inputs, outputs).
    spread: rows are an output channel at a place of the kernel, and what they give is added up
        where kernels overlap (a transposed convolution). A row alone is then what its input adds.
    """

    name: str
    inputs: Tensor = field(repr=False)
    groups: int = 1
    transposed: bool = False
    spread: bool = False

    def matrix(self, weight: Tensor) -> Tensor:
        """A weight (or scores of its shape) as (groups, rows, columns)."""
        parts = weight.flatten(1).unflatten(0, (self.groups, -1))
        return parts.mT if self.transposed else parts

    def weight(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """The counterpart of `matrix`."""
        parts = matrix.mT if self.transposed else matrix
        return parts.reshape(tuple(shape))


def _linear(name: str, x: Tensor, weight: Tensor, bias: Any = None) -> Use:
    return Use(name, x.reshape(1, -1, x.shape[-1]))


def _matmul(name: str, x: Tensor, weight: Tensor) -> Use:
    return Use(name, x.reshape(1, -1, x.shape[-1]), transposed=True)


def _convolution(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Use:
    kernel = weight.shape[2:]
    if x.dim() == len(kernel) + 1:  # one example without a batch dimension
        x = x[None]

    def each(value: Any) -> list[int]:
        values = [value] if isinstance(value, int) else list(value)
        return values * len(kernel) if len(values) == 1 else values

    strides, dilations = each(stride), each(dilation)
    spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    if padding == "same":
        sides = [(s // 2, s - s // 2) for s in spans]
    else:
        sides = [(p, p) for p in each(0 if padding == "valid" else padding)]
    x = F.pad(x, [p for side in reversed(sides) for p in side])
    for i, (span, step, dilation) in enumerate(zip(spans, strides, dilations, strict=True)):
        x = x.unfold(2 + i, span + 1, step)[..., ::dilation]
    n = len(kernel)
    # (N, C, places…, kernel…) -> (groups, N · places, C / groups · kernel)
    x = x.unflatten(1, (groups, -1))
    x = x.permute(1, 0, *range(3, 3 + n), 2, *range(3 + n, 3 + 2 * n))
    x = x.reshape(groups, -1, weight[0].numel())
    return Use(name, x, groups)


def _convolution_back(
    name: str,
    x: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Use:
    if x.dim() == weight.dim() - 1:  # one example without a batch dimension
        x = x[None]
    # (N, C, places…) -> (groups, N · places, C / groups)
    x = x.flatten(2).unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    return Use(name, x, groups, transposed=True, spread=True)


OPERATORS: dict[str, tuple[int, Callable[..., Use]]] = {
    "linear": (1, _linear),
    "conv1d": (1, _convolution),
    "conv2d": (1, _convolution),
    "conv3d": (1, _convolution),
    "conv_transpose1d": (1, _convolution_back),
    "conv_transpose2d": (1, _convolution_back),
    "conv_transpose3d": (1, _convolution_back),
    "matmul": (1, _matmul),
    "mm": (1, _matmul),
    "addmm": (2, lambda name, bias, x, weight, **_: _matmul(name, x, weight)),
}
"""ATen operator -> where its weight stands among the arguments, and what is multiplied."""


def _recurrent(
    run: Callable[..., Any],
    names: Mapping[int, str],
    x: Tensor,
    start: Any,
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Iterator[Use]:
    """Uses of a recurrent network's weights: inputs of W_ih, earlier hidden states of W_hh.

    Layers and directions are run one by one, since what passes between them is not seen outside.
    """
    x = x.unsqueeze(1) if x.dim() == 2 else x.transpose(0, 1) if batch_first else x
    states = [s if s.dim() == 3 else s.unsqueeze(1) for s in
              (start if isinstance(start, (list, tuple)) else [start])]  # fmt: skip
    ways = 2 if bidirectional else 1
    each = len(weights) // (layers * ways)
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            number = layer * ways + way
            own = list(weights[number * each : (number + 1) * each])
            first = [s[number : number + 1] for s in states]
            there = x.flip(0) if way else x
            given = first if isinstance(start, (list, tuple)) else first[0]
            out = run(there, given, own, has_biases, 1, 0.0, False, False, False)[0]
            before = torch.cat([first[0], out[:-1]])
            for weight, inputs in ((own[0], there), (own[1], before)):
                if id(weight) in names:
                    yield Use(names[id(weight)], inputs.reshape(1, -1, inputs.shape[-1]))
            outputs.append(out.flip(0) if way else out)
        x = torch.cat(outputs, dim=-1)


RECURRENT = {
    "lstm.input": torch._VF.lstm,
    "gru.input": torch._VF.gru,
    "rnn_tanh.input": torch._VF.rnn_tanh,
    "rnn_relu.input": torch._VF.rnn_relu,
}
"""ATen overload -> what runs it. Packed sequences are other overloads, and are not understood."""


class _Watch(TorchDispatchMode):
    def __init__(self, names: Mapping[int, str], see: Callable[[Use], None]) -> None:
        super().__init__()
        self.names, self.see = names, see

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        place, use = OPERATORS.get(func._schema.name.split("::")[-1], (0, None))
        if use is not None and len(args) > place:
            name = self.names.get(id(args[place]))
            if name is not None:
                # Inference tensors could take no part in training later on.
                with torch.inference_mode(False), torch.no_grad():
                    plain = [a.clone() if isinstance(a, Tensor) else a for a in args]
                    self.see(use(name, *plain, **(kwargs or {})))
        run = RECURRENT.get(f"{func._schema.name.split('::')[-1]}.{func._overloadname}")
        if run is not None and any(id(w) in self.names for w in args[2]):
            with torch.inference_mode(False), torch.no_grad():
                x, start = pytree.tree_map(lambda t: t.clone(), (args[0], args[1]))
                own = [w.detach().clone() for w in args[2]]
                names = {id(o): self.names[id(w)] for o, w in zip(own, args[2], strict=True)
                         if id(w) in self.names}  # fmt: skip
                for found in _recurrent(run, names, x, start, own, *args[3:]):
                    self.see(found)
        return func(*args, **(kwargs or {}))


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Eval mode without fused paths that hide the operators; as before on leaving."""
    flags = {m: m.training for m in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        # In inference mode linear, conv2d and matmul reach a dispatch mode whole.
        with torch.inference_mode():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, flag in flags.items():
            module.training = flag


def observe(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    data: Iterable[Batch],
    see: Callable[[Use], None],
    only: Iterable[str] | None = None,
    *,
    strict: bool = True,
) -> None:
    """Run the model on `data` and call `see` with every use of every weight, as it happens.

    Args:
        only: the weights to look at; all by default.
        strict: every weight must be seen.
    Raises:
        PruneError: with `strict`, a weight took part in no product that is understood.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 2))
    >>> batch = torch.randn(5, 3, 4, 4), torch.zeros(5)
    >>> observe(net, {"0.weight": net[0].weight, "2.weight": net[2].weight}, [batch],
    ...         lambda use: print(use.name, tuple(use.inputs.shape)))
    0.weight (1, 80, 27)
    2.weight (1, 5, 64)
    """
    model = unwrap(model)
    chosen = list(weights) if only is None else list(only)
    names = {id(weights[n]): n for n in chosen}
    seen: set[str] = set()

    def note(use: Use) -> None:
        seen.add(use.name)
        see(use)

    device = next(iter(weights.values())).device
    with _still(model), _Watch(names, note):
        for batch in data:
            forward(model, to_device(batch, device))
    unseen = [n for n in chosen if n not in seen]
    if unseen and strict:
        raise PruneError(
            f"the inputs of {unseen[0]!r} cannot be seen: it takes part in none of "
            f"{', '.join([*OPERATORS, *(n.partition('.')[0] for n in RECURRENT)])} on this data"
            f"{f' (nor do {len(unseen) - 1} more)' if len(unseen) > 1 else ''}; protect it"
        )


def order(model: nn.Module, weights: Mapping[str, Tensor], batch: Batch) -> list[str]:
    """The weights' names as the model first uses them."""
    found: dict[str, None] = {}
    observe(model, weights, [batch], lambda use: found.setdefault(use.name))
    return list(found)


def first_user(
    model: nn.Module, modules: Iterable[nn.Module], weights: Mapping[str, Tensor], batch: Batch
) -> dict[nn.Module, str]:
    """Module -> the weight that is used first after it has run; modules without one are absent."""
    waiting: list[nn.Module] = []
    found: dict[nn.Module, str] = {}

    def see(use: Use) -> None:
        for module in waiting:
            found.setdefault(module, use.name)
        waiting.clear()

    handles = [m.register_forward_hook(lambda m, *_: waiting.append(m)) for m in modules]
    try:
        observe(model, weights, [batch], see)
    finally:
        for handle in handles:
            handle.remove()
    return found
