"""Capture leaves no trace, answers for any call, and knows where the integers come from."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import einops
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops.layers.torch import EinMix, Rearrange
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import sentei
from sentei import Target, prune
from sentei.graph.analysis import analyze_tapes
from sentei.graph.capture import capture, named_tensors, tensors_in, unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Groups, analyze, captures
from sentei.graph.surgery import Mismatch, remove
from sentei.graph.tape import AttributeKey, Node, Symbol, Tape


# -- nothing is changed ---------------------------------------------------------------------------
@dataclass
class Settings:
    width: int = 8
    sizes: list[int] = field(default_factory=lambda: [2, 4])
    extra: dict[str, Any] = field(default_factory=lambda: {"depth": 3, "name": "x"})


class Pair(NamedTuple):
    a: int
    b: int


class Busy(nn.Module):
    """Changes everything a forward pass can change."""

    count: Tensor
    history: Tensor

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.layer = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("history", torch.zeros(8))
        self.register_buffer("absent", None)
        self.number = 7
        self.flag = True
        self.shape = (2, 4)
        self.pair = Pair(2, 4)
        self.nested = {"a": [1, (2, 3)], "b": {"c": 4}}
        self.config = Settings()
        self.space = types.SimpleNamespace(heads=2)
        self.log: list[int] = [1]
        self.cache: dict[str, Any] = {"old": 1}
        self.seen: set[int] = {1}
        self.plain = torch.ones(8)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.number = 9
        self.fresh = "new attribute"
        self.log.append(self.number)
        self.cache["old"] = self.cache["new"] = x
        self.seen.clear()
        self.nested["a"].append(5)
        self.config.width = 99
        self.config.sizes.append(6)
        self.space.heads = 1
        self.count += 1
        self.history[0] = 3.0
        self.plain.mul_(2)
        self.training = not self.training
        self.drop.p = 0.9
        self.layer.register_forward_hook(lambda *_: None)
        random.random()
        np.random.rand()
        torch.rand(3)
        y = self.drop(self.norm(self.layer(x)))
        x.add_(1)
        if self.fails:
            raise KeyError("the user's own error")
        return y


def photograph(model: nn.Module) -> dict[str, Any]:
    """All state, as plain values with their types."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return ("tensor", id(value), value.detach().clone().tolist())
        if isinstance(value, nn.Module):
            return ("module", id(value))
        if isinstance(value, dict):
            return (type(value), {k: plain(v) for k, v in value.items()})
        if isinstance(value, (list, tuple)):
            return (type(value), [plain(v) for v in value])
        if isinstance(value, (Settings, types.SimpleNamespace)):
            return (type(value), id(value), plain(vars(value)))
        return (type(value), value)

    return {name: (type(m), plain(vars(m))) for name, m in model.named_modules()}


@pytest.mark.parametrize("abstract", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_everything_is_restored(abstract: bool, training: bool, fails: bool) -> None:
    model, x = Busy(fails), torch.randn(3, 4)
    model.train(not training)
    model.drop.training = training  # flags that differ between modules stay so
    before, x_before = photograph(model), x.clone()
    python, numpy, rng = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    grad = torch.is_grad_enabled()
    if fails:
        with pytest.raises(KeyError, match="the user's own error"):
            capture(model, (x,), training=training, abstract=abstract)
    else:
        capture(model, (x,), training=training, abstract=abstract)
    assert photograph(model) == before
    assert torch.equal(x, x_before)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.backends.mha.get_fastpath_enabled() == fastpath
    assert torch.is_grad_enabled() == grad
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_attention_fastpath_is_put_back(enabled: bool) -> None:
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        x = torch.randn(2, 3, 8)
        want = layer(x)
        tape = capture(layer, (x,))
        assert "scaled_dot_product" in names(tape) or "softmax" in names(tape)
        assert type(layer.self_attn) is nn.MultiheadAttention
        assert torch.backends.mha.get_fastpath_enabled() is enabled
        assert torch.equal(layer(x), want)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_integers_stay_plain() -> None:
    """Not even an equal Symbol remains: `type(x) is int` decides how libraries treat a number."""
    model = Busy()
    capture(model, (torch.randn(3, 4),))
    for value in (model.number, model.shape[0], model.pair.a, model.nested["a"][0],
                  model.nested["b"]["c"], model.config.width, model.config.sizes[0],
                  model.config.extra["depth"], model.space.heads):  # fmt: skip
        assert type(value) is int
    assert type(model.pair) is Pair
    assert type(model.flag) is bool


def test_a_kept_reference_is_a_plain_integer() -> None:
    """What the model stores elsewhere during the pass may be a Symbol; copies of it are not."""
    import copy
    import pickle

    six = Symbol.make(6, ("attribute", AttributeKey("", ("n",))))
    assert type(copy.deepcopy(six)) is int
    assert type(copy.copy(six)) is int
    assert type(pickle.loads(pickle.dumps(six))) is int


def test_hooks_and_gradients_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    called: list[int] = []
    net[0].register_forward_hook(lambda *_: called.append(1))
    net(torch.randn(1, 4)).sum().backward()
    gradient = net[0].weight.grad
    handles = len(torch.nn.modules.module._global_forward_hooks)
    capture(net, (torch.randn(1, 4),))
    assert net[0].weight.grad is gradient
    assert len(torch.nn.modules.module._global_forward_hooks) == handles
    assert len(net[0]._forward_hooks) == 1


def test_parameters_written_in_a_real_run_are_put_back() -> None:
    class Clamps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.layer.weight.data.clamp_(0, 0.1)
            self.layer.weight[0].zero_()
            return self.layer(x)

    model = Clamps()
    before = model.layer.weight.detach().clone()
    capture(model, (torch.randn(1, 4),), abstract=False)
    assert torch.equal(model.layer.weight, before)


def test_integer_inputs_written_to_are_put_back() -> None:
    class Fills(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, ids: Tensor) -> Tensor:
            ids[ids < 0] = 0
            ids[:, 0] = 4
            return self.table(ids)

    ids = torch.tensor([[1, -1], [-1, 2]])
    capture(Fills(), (ids,))
    assert ids.tolist() == [[1, -1], [-1, 2]]


# -- any call -------------------------------------------------------------------------------------
@dataclass
class Batch:
    x: Tensor
    more: dict[str, Any]


@dataclass
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    loss: float | None = None


class Any_(nn.Module):
    """Takes what it is given, gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, batch: Batch, *rest: Tensor, scale: Tensor, options: Any = None) -> Answer:
        h = self.layer(batch.x + batch.more["y"][0]) * scale + sum(r.sum() for r in rest)
        if options is not None:
            h = h + options["deep"][0]["z"]
        return Answer(h, (h, h + 1))


def test_any_call_and_any_answer() -> None:
    x = torch.randn(2, 4)
    batch = Batch(x, {"y": [torch.randn(2, 4)]})
    options = {"deep": ({"z": torch.randn(6)},), "n": 3, "none": None}
    tape = capture(Any_(), (batch, x, x), {"scale": torch.ones(6), "options": options})
    inputs = {v.name for v in inputs_of(tape)}
    assert inputs == {"[0][0].x", "[0][0].more.y[0]", "[1].scale", "[1].options.deep[0].z"}
    assert len(tape.outputs) == 3
    assert len({id(v) for v in tape.outputs}) == 2


@pytest.mark.parametrize("answer", [
    lambda h: h, lambda h: (h,), lambda h: [h, None], lambda h: {"a": h, "b": {"c": 1}},
    lambda h: OrderedDict(x=h), lambda h: Answer(h, ()), lambda h: types.SimpleNamespace(h=h),
    lambda h: torch.max(h, 1),
])  # fmt: skip
def test_outputs_of_any_kind_are_found(answer: Callable[[Tensor], Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Any:
            return answer(self.layer(x))

    assert len(capture(Net(), (torch.randn(2, 4),)).outputs) in (1, 2)
    assert len(analyze(Net(), torch.randn(2, 4))) == 0  # its output is an output


def test_tensors_in_does_not_follow_cycles_for_ever() -> None:
    loop: list[Any] = [torch.ones(1)]
    loop.append(loop)
    assert 1 <= len(list(tensors_in(loop))) <= 8


def test_an_error_of_the_model_comes_through_as_it_is() -> None:
    class Mine(ValueError):
        pass

    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise Mine("these inputs will not do")

    with pytest.raises(Mine, match="these inputs will not do") as caught:
        capture(Fails(), (torch.randn(1),))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_wrong_arguments_say_what_python_says() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        capture(nn.Linear(4, 2), (torch.randn(1, 4),), {"nonsense": 1})


def test_wrong_shapes_say_what_torch_says() -> None:
    with pytest.raises(RuntimeError, match=r"shapes|size"):
        capture(nn.Linear(4, 2), (torch.randn(1, 5),))


# -- control flow ---------------------------------------------------------------------------------
def test_control_flow_on_values_falls_back_to_a_real_run() -> None:
    class Decides(nn.Module):
        """Twins answer 0, which this model does not accept."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            n = int(x.abs().sum().item()) + 1
            if n < 2:
                raise ValueError("empty input")
            return self.b(self.a(x)[:, :8])

    model, x = Decides(), torch.full((1, 4), 3.0)
    assert capture(model, (x,)).abstract is False
    with pytest.raises(ValueError, match="empty input"):
        capture(model, (x,), abstract=True)
    assert list(analyze(model, x)) == ["a"]


def test_loops_over_integers_are_followed_without_arithmetic() -> None:
    class Routes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(4, 3)
            self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            choice = self.gate(x).topk(2, -1).indices
            out = torch.zeros_like(x)
            for i in range(3):
                at = (choice == i).any(-1).nonzero().squeeze(-1)
                if len(at):
                    out[at] += self.experts[i](x[at])
            return out

    tape = capture(Routes(), (torch.randn(12, 4),))
    assert tape.abstract
    used = {node.module for node in tape.nodes}
    assert {"experts.0", "experts.1", "experts.2"} <= used


# -- wrappers -------------------------------------------------------------------------------------
def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_compiled_models_are_looked_through() -> None:
    model = small()
    assert unwrap(torch.compile(model)) is model
    assert list(analyze(torch.compile(model), torch.randn(3, 4))) == ["0"]


def test_wrappers_inside_wrappers() -> None:
    model = small()
    assert unwrap(nn.DataParallel(torch.compile(model))) is model
    assert list(analyze(nn.DataParallel(model), torch.randn(3, 4))) == ["0"]


def test_a_module_compiled_in_place() -> None:
    model = small()
    model[0].compile()
    assert list(analyze(model, torch.randn(3, 4))) == ["0"]


@pytest.mark.parametrize("wrap", [
    parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal,
])  # fmt: skip
def test_parametrized_weights_capture(wrap: Any) -> None:
    model = small()
    wrap(model[0])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tape = capture(model, (torch.randn(3, 4),))
    assert any(name.startswith("0.parametrizations.weight") for name in tape.parameters)
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("place", [0, 2])
def test_a_spectral_norm_in_train_mode_is_not_moved_by_looking_at_it(place: int) -> None:
    model = small().train()
    parametrizations.spectral_norm(model[place])
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    result = prune(model, torch.randn(3, 4), target=Target(width=0.5), inplace=False)
    assert result.verification is not None and result.verification.passed
    assert all(torch.equal(v, buffers[k]) for k, v in model.named_buffers())


def test_what_was_pruned_in_inference_mode_can_be_trained() -> None:
    model = small()
    with torch.inference_mode():
        prune(model, torch.randn(3, 4), target=Target(width=0.5))
    model(torch.randn(3, 4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_weight_norm_is_pruned_like_the_weight_it_makes() -> None:
    model = small()
    parametrizations.weight_norm(model[0])
    groups = analyze(model, torch.randn(3, 4))
    slices = {s.parameter for g in groups.values() for s in g.slices}
    assert {"0.parametrizations.weight.original0", "2.weight"} <= slices


def test_weight_data_is_the_weight() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.a.weight.data, self.a.bias.detach()), self.b.weight)

    (group,) = analyze(Functional(), torch.randn(1, 4)).values()
    assert {s.parameter for s in group.slices} == {"a.weight", "a.bias", "b.weight"}


def test_a_parameter_that_is_not_used_is_left_alone() -> None:
    net = small()
    net[0].register_parameter("spare", nn.Parameter(torch.randn(8, 3)))
    groups = analyze(net, torch.randn(1, 4))
    assert list(groups) == ["0"]
    assert {s.parameter for s in groups["0"].slices} == {"0.weight", "0.bias", "2.weight"}
    assert "not used in the captured pass" in {g.pinned for g in groups.pinned.values()}


def test_tied_weights_are_one_tensor() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    tape = capture(model, (torch.randn(1, 4),))
    assert "1.weight" not in tape.parameters
    used = [n.args[1] for n in tape.nodes if "linear" in n.name]
    assert used[0] is used[1]


def test_a_module_called_twice_records_twice() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert [n.name for n in capture(model, (torch.randn(1, 4),)).nodes].count(
        "aten.linear.default"
    ) == 2


def test_a_model_without_weights_is_captured() -> None:
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Conv2d(3, 1 << 14, 3), nn.BatchNorm2d(1 << 14), nn.ReLU(),
            nn.Conv2d(1 << 14, 1 << 14, 3),
        )  # fmt: skip
    groups = analyze(model, torch.randn(1, 3, 8, 8))
    assert list(groups) == ["0"]
    assert all(p.is_meta for p in model.parameters())
    assert groups.cost().params > 1 << 30
    named = analyze(model, torch.randn(1, 3, 8, 8, device="meta"))
    assert list(named) == ["0"]


def test_named_tensors_names_each_tensor_once() -> None:
    model = Busy()
    model.norm.again = model.layer.weight
    found = named_tensors(model)
    assert found["layer.weight"][0] == "parameter"
    assert found["history"][0] == "buffer"
    assert found["plain"][0] == "attribute"
    assert "norm.again" not in found
    assert "absent" not in found


def test_tensors_changed_in_place_to_another_shape_get_axes_of_their_own() -> None:
    class Transposes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)  # (3, 8)
            h.t_()
            return self.b(h)

    tape = capture(Transposes(), (torch.randn(3, 4),))
    node = next(n for n in tape.nodes if "t_" in n.name)
    assert node.args[0].shape == (3, 8)
    assert node.outputs[0].shape == (8, 3)
    assert analyze(Transposes(), torch.randn(3, 4)).unknown == {}


# -- where integers come from ---------------------------------------------------------------------
def names(tape: Tape) -> str:
    return " ".join(n.name for n in tape.nodes)


def inputs_of(tape: Tape) -> Iterator[Any]:
    from sentei.graph.tape import Value, flatten

    seen: set[int] = set()
    for node in tape.nodes:
        for leaf in flatten((node.args, node.kwargs)):
            if isinstance(leaf, Value) and leaf.origin == "input" and id(leaf) not in seen:
                seen.add(id(leaf))
                yield leaf


class Provenance(nn.Module):
    def __init__(self, body: Callable[[Provenance, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 12)
        self.body = [body]  # in a list: a function of the class would be a method
        self.heads = 3
        self.sizes = (4, 8)
        self.config = Settings(width=12)

    def forward(self, x: Tensor) -> Tensor:
        return self.body[0](self, self.layer(x))


def call(body: Callable[[Any, Tensor], Tensor], op: str) -> Node:
    tape = capture(Provenance(body), (torch.randn(2, 5, 6),))
    return next(n for n in tape.nodes if n.name.split(".")[1] == op)


HEADS = ("attribute", AttributeKey("", ("heads",)))


def test_view_gets_attribute_and_sizes() -> None:
    node = call(lambda m, h: h.view(h.shape[0], h.size(1), m.heads, h.shape[-1] // m.heads), "view")
    b, n, heads, inner = node.args[1]
    linear = node.args[0]
    assert b.expr == ("size", linear, 0)
    assert n.expr == ("size", linear, 1)
    assert heads.expr == HEADS
    assert inner.expr[0] == "//"
    assert inner.expr[1] == ("size", linear, 2)
    assert inner.expr[2] == HEADS


def test_reshape_with_minus_one_and_a_literal() -> None:
    node = call(lambda m, h: h.reshape(-1, 5, m.heads, 4), "reshape")
    minus, five, heads, four = node.args[1]
    assert [type(x) for x in (minus, five, four)] == [int, int, int]
    assert heads.expr == HEADS


def test_view_with_a_tuple_of_attributes() -> None:
    node = call(lambda m, h: h.view(*h.shape[:2], *(1, 12)), "view")
    assert node.args[1][1].expr[0] == "size"


@pytest.mark.parametrize("split", [
    lambda m, h: h.split(m.sizes, dim=-1)[0], lambda m, h: torch.split(h, m.sizes, -1)[1],
    lambda m, h: h.split(list(m.sizes), -1)[1],
])  # fmt: skip
def test_split_gets_the_items_of_a_tuple(split: Callable[[Any, Tensor], Tensor]) -> None:
    tape = capture(Provenance(split), (torch.randn(2, 5, 6),))
    node = next(n for n in tape.nodes if n.name.split(".")[1].startswith("split"))
    assert [s.expr[1] for s in node.args[1]] == [
        AttributeKey("", ("sizes", 0)), AttributeKey("", ("sizes", 1)),
    ]  # fmt: skip


def test_expand_and_zeros() -> None:
    node = call(lambda m, h: h.new_zeros(1).expand(m.heads, h.shape[1]), "expand")
    assert node.args[1][0].expr == HEADS
    assert node.args[1][1].expr[0] == "size"
    node = call(lambda m, h: torch.zeros(2, m.config.width) + h[:, 0], "zeros")
    assert node.args[0][1].expr == ("attribute", AttributeKey("", ("config", "width")))


def test_narrow_and_slices() -> None:
    node = call(lambda m, h: h.narrow(-1, m.heads, m.sizes[0]), "narrow")
    assert node.args[2].expr == HEADS
    assert node.args[3].expr == ("attribute", AttributeKey("", ("sizes", 0)))
    node = call(lambda m, h: h[..., : m.sizes[0]], "slice")
    assert node.args[3].expr == ("attribute", AttributeKey("", ("sizes", 0)))


def test_a_float_of_the_call_is_no_dimension_of_its_operators() -> None:
    def attend(m: Provenance, h: Tensor) -> Tensor:
        weight, bias = torch.eye(12), torch.zeros(12)
        return F.multi_head_attention_forward(
            h, h, h, 12, m.heads, None, torch.zeros(36), None, None, False, 0.0, weight, bias,
            need_weights=False, use_separate_proj_weight=True, q_proj_weight=weight,
            k_proj_weight=weight, v_proj_weight=weight,
        )[0]  # fmt: skip

    swap = call(attend, "transpose")
    assert [type(n) for n in swap.args[1:]] == [int, int]


def test_numbers_of_a_configuration_object_survive_arithmetic() -> None:
    node = call(lambda m, h: h.view(2, 5, m.config.width // 4, -1), "view")
    assert node.args[1][2].expr == (
        "//", ("attribute", AttributeKey("", ("config", "width"))), 4,
    )  # fmt: skip


def test_functional_names_arrive_too() -> None:
    node = call(lambda m, h: F.layer_norm(h, (m.config.width,)), "layer_norm")
    assert node.args[1][0].expr == ("attribute", AttributeKey("", ("config", "width")))
    node = call(lambda m, h: h.unflatten(-1, (m.heads, -1)), "unflatten")
    assert node.args[2][0].expr == HEADS
    node = call(lambda m, h: h.repeat(1, 1, m.heads), "repeat")
    assert node.args[1][2].expr == HEADS


def test_booleans_are_no_integers() -> None:
    model = Busy()
    tape = capture(model, (torch.randn(3, 4),))
    assert not any("flag" in key.path for key in tape.attributes)
    assert tape.attributes[AttributeKey("", ("nested", "a", 1, 0))] == 2


def test_lists_kinds_of_containers() -> None:
    """A deque or an array is no plain container: left as it is."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queue = deque([1, 2])
            self.array = np.array([1, 2])
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.queue[0]

    model = Odd()
    capture(model, (torch.randn(1, 4),))
    assert list(model.queue) == [1, 2]
    assert type(model.queue[0]) is int


def test_grouped_products_are_captured_in_any_type_and_without_weights():
    class Routed(nn.Module):
        def __init__(self, device=None):
            super().__init__()
            self.experts = nn.Parameter(torch.randn(3, 8, 12, device=device))

        def forward(self, x):
            ends = torch.tensor([2, 3, 5], dtype=torch.int32)
            return torch._grouped_mm(x, self.experts, ends)

    for device in ("cpu", "meta"):
        tape = capture(Routed(device), (torch.randn(5, 8, device=device),))
        assert tape.abstract
        assert [v.shape for v in tape.outputs] == [(5, 12)]


# -- one pass where the mode changes nothing ------------------------------------------------------
class Scaled(nn.Module):
    """Asks for the mode itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


def _vision(*more: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.1)]
    layers += [nn.Dropout2d(0.1), nn.InstanceNorm2d(4), nn.AlphaDropout(0.1)]
    return nn.Sequential(*layers, *more)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.LSTM(4, 8, batch_first=True, dropout=0.1, num_layers=2)
        self.mix = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.read(x)
        out: Tensor = self.mix(h, h, h)[0]
        return out


@pytest.mark.parametrize(
    ("build", "x"),
    [(_vision, torch.randn(2, 3, 8, 8)), (Recurrent, torch.randn(2, 5, 4))],
    ids=["vision", "recurrent"],
)
def test_one_pass_will_do_where_stock_modules_hand_the_mode_on(
    build: Callable[[], nn.Module], x: Tensor
) -> None:
    model = build().eval()
    (tape,) = captures(model, (x,), {})
    training = capture(model, (x,), training=True)
    assert tape.any_mode
    assert [n.op for n in tape.substance] == [n.op for n in training.substance]
    one, both = (Groups(analyze_tapes(tapes)) for tapes in ([tape], [tape, training]))
    assert [(g.name, g.size, g.pinned, g.normalised, g.tied) for g in one._all] == [
        (g.name, g.size, g.pinned, g.normalised, g.tied) for g in both._all
    ]


@pytest.mark.parametrize(
    "part",
    [
        Scaled(),
        nn.BatchNorm2d(4, momentum=None),
        nn.Sequential(nn.BatchNorm2d(4)),
        torch.jit.script(nn.Sequential(nn.ReLU())),
    ],
    ids=["own code", "cumulative", "statistics put away", "script"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_two_passes_where_the_mode_may_matter(part: nn.Module) -> None:
    if isinstance(part, nn.Sequential) and isinstance(part[0], nn.BatchNorm2d):
        part[0].track_running_stats = False
    assert len(captures(_vision(part).eval(), (torch.randn(2, 3, 8, 8),), {})) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_watched_is_restored(fails: bool) -> None:
    before = vars(nn.Module).get("training"), nn.Module.__call__, gc.isenabled()
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        capture(nn.Linear(4, 2), (torch.randn(1, 3 if fails else 4),))
    assert (vars(nn.Module).get("training"), nn.Module.__call__, gc.isenabled()) == before


# -- answers found by form ------------------------------------------------------------------------
class Careful(nn.Module):
    """Does by turns what looks alike in form and is not alike."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        whole, part = (x + 0)[0], (x + 0).flatten()[:4]
        assert whole.view(2, 2).shape == part.view(2, 2).shape
        wide = part.view(2, 2).as_strided((2, 4), (4, 1))  # reaches over what follows `part`
        steps = torch.tensor(1)
        for _ in range(2):
            steps.add_(1)  # a real integer changes each time
        # A view of a parameter is no inference tensor, whatever was viewed before.
        assert whole.view(-1).is_inference() and not self.weight.view(-1).is_inference()
        pair = x.clone()
        pair = pair.t_().t_() if x.shape[0] == x.shape[1] else pair.t_()
        return wide.sum() + x.view(-1, int(steps) - 1).sum() + pair.sum() + self.weight.sum()


@pytest.mark.parametrize("shape", [(2, 4), (4, 4)])
def test_what_looks_alike_in_form_is_told_apart(shape: tuple[int, int]) -> None:
    for _ in range(2):  # the second time, everything that may be known is known
        tape = capture(Careful(), (torch.randn(shape),), abstract=True)
        views = [n for n in tape.nodes if n.operator == "view"]
        assert views[-1].args[1] == [-1, 2]
        turned = [n.outputs[0].shape for n in tape.nodes if n.operator == "t_"]
        assert turned[0] == shape[::-1]


class Forgiving(nn.Module):
    """Goes on where a part of it raises."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with contextlib.suppress(RuntimeError):
            self.part(x)
        return x.relu()


def test_operators_after_a_part_that_raised_belong_to_the_whole() -> None:
    tape = capture(Forgiving(), (torch.randn(2, 4),))
    assert [n.module for n in tape.nodes if n.operator == "relu"] == [""]


class Skipping(nn.Module):
    """Skips its middle layer now and then while it trains."""

    def __init__(self, measured=False):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.measured = measured

    def forward(self, x):
        y = nn.functional.dropout(self.a(x), 0.3, self.training)
        if self.measured and not y.abs().sum() > 0:
            raise ValueError("no twins, please")
        if not self.training or torch.rand(()) > 0.5:
            y = torch.relu(self.b(y))
        return self.c(y)


def test_passes_draw_the_same_numbers_each_time():
    model, x = Skipping(), torch.randn(4, 5)
    lengths = set()
    for seed in range(8):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        lengths.add(len(capture(model, (x,), training=True).nodes))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(lengths) == 1
    assert len({len(capture(model, (x,), training=True, seed=s).nodes) for s in range(8)}) == 2


@pytest.mark.parametrize("measured", [False, True])
def test_a_network_that_skips_layers_by_lot_can_be_pruned(measured):
    model, x = Skipping(measured).double(), torch.randn(4, 5, dtype=torch.float64)
    groups = analyze(model, x)
    keep = {name: torch.arange(g.size // 2) for name, g in groups.items()}
    assert remove(model, groups, keep, ((x,), {})).verification.passed
    model.train()(x).sum().backward()


def test_what_only_the_real_kernel_objects_to_is_found_before_anything_changes():
    class Fussy(nn.Module):
        """Runs without values at any width, and with them at even ones."""

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x):
            y = self.a(x)
            if y.shape[1] % 2 and y.abs().sum() > 0:
                raise RuntimeError("odd rows")
            return self.b(y)

    model, x = Fussy().double(), torch.randn(4, 5, dtype=torch.float64)
    before = model(x)
    with pytest.raises(Mismatch, match=r"does not run \(RuntimeError: odd rows") as found:
        remove(model, analyze(model, x), {"a": torch.arange(3)}, ((x,), {}))
    assert found.value.dims
    assert torch.equal(model(x), before)
    assert remove(model, analyze(model, x), {"a": torch.arange(4)}, ((x,), {})).verification.passed


def test_another_library_s_operator_is_not_known_by_its_name() -> None:
    """It reverses the features, and is called as one of torch's that goes element by element."""
    library = torch.library.Library("sentei_names", "DEF")
    library.define("square(Tensor x) -> Tensor")
    library.impl("square", lambda x: x.flip(-1).clone(), "CompositeExplicitAutograd")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.down(torch.ops.sentei_names.square(self.up(x)))

    groups = analyze(Net(), torch.randn(2, 4))
    assert not len(groups)
    assert "no rule for sentei_names" in groups.pinned["up"].pinned
    library._destroy()


# -- settings that are a mapping and an object ----------------------------------------------------
class Frozen(dict):
    """Settings as diffusers keeps them: each is an item and an attribute, and none may change."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        vars(self).update(given)

    def refuse(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("these settings are frozen")

    __setitem__ = __setattr__ = update = pop = clear = refuse  # type: ignore[assignment]


class Items(dict):
    """Settings that only look like attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Configured(nn.Module):
    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.inner, self.out = nn.Linear(5, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).view(len(x), self.settings.width)
        return self.out(h.view(len(x), self.settings["width"]).tanh())


@pytest.mark.parametrize("kind", [Frozen, Items])
def test_settings_follow_as_attributes_and_as_items(kind: type) -> None:
    model, x = Configured(kind(width=12, other=7)), torch.randn(3, 5)
    groups = analyze(model, args=(x,))
    assert dict(model.settings) == {"width": 12, "other": 7}
    assert {type(v) for v in model.settings.values()} == {int}
    (name,) = groups
    remove(model, groups, {name: torch.arange(5)}, ((x,), {}))
    assert (model.settings.width, model.settings["width"], model.settings.other) == (5, 5, 7)


def test_frozen_settings_are_as_before_where_the_code_cannot_follow() -> None:
    settings, x = Frozen(width=12, other=7), torch.randn(3, 5)
    model = Configured(settings)
    groups = analyze(model, args=(x,))
    model.forward = lambda x: model.out(model.inner(x).view(len(x), 12))  # of this nobody told
    with pytest.raises(Mismatch):
        remove(model, groups, {next(iter(groups)): torch.arange(5)}, ((x,), {}))
    assert dict(settings) == vars(settings) == {"width": 12, "other": 7}
    assert type(settings.width) is int


class Asserting(nn.Module):
    """Complains of a width between two operators, of which the next has to do with none."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = [str(12)]  # the engine follows integers, not words
        self.inner, self.out = nn.Linear(5, 12), nn.Linear(12, 14)
        self.last = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        assert h.shape == (len(x), int(self.settings[0]))
        places = torch.arange(len(x), device=x.device)
        return self.last(self.out(h).tanh())[places]


def test_a_width_that_the_code_asserts_stays_and_others_go() -> None:
    model, x = Asserting(), torch.randn(3, 5)
    groups = analyze(model, args=(x,))
    keep = {name: torch.arange(g.size // 2) for name, g in groups.items()}
    with pytest.raises(Mismatch, match="AssertionError") as caught:
        remove(model, groups, keep, ((x,), {}))
    assert [dim.size for dim in caught.value.dims] == [12]
    assert len(groups.without(caught.value.dims, "asserted")) == len(groups) - 1


@lru_cache
def halves(width: int) -> tuple[int, int]:
    return width // 2, width - width // 2


class Remembering(nn.Module):
    """Takes its sizes from functions that remember earlier answers: einops, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.qkv, self.out = nn.Linear(7, 3 * 12, bias=False), nn.Linear(12, 8)
        self.left, self.right = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        q, k, v = (
            einops.rearrange(t, "b n (h d) -> b h n d", h=self.heads)
            for t in self.qkv(x).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v, scale=0.5)
        y = self.out(einops.rearrange(y, "b h n d -> b n (h d)"))
        left, right = y.split(halves(y.shape[-1]), dim=-1)
        return self.left(left) + self.right(right)


def test_functions_that_remember_their_answers_are_asked_anew() -> None:
    model, x = Remembering(), torch.randn(2, 5, 7)
    model(x)  # now everything is remembered
    before = halves
    groups = analyze(model, x)
    assert halves is before
    assert {g.name for g in groups.values()} == {"qkv/0", "qkv/1", "qkv/2", "out/0", "out/1"}
    sentei.prune(model, x, target=sentei.Target(width=0.5), granularity="both")
    assert model.heads == 1
    assert model(torch.randn(1, 4, 7)).shape == (1, 4, 2)
    assert all(type(n) is int for n in halves(8))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_parts_are_cut_and_put_back_like_others(monkeypatch) -> None:
    parts = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    model, x = torch.jit.script(nn.Sequential(*parts)).eval(), torch.randn(4, 5)
    groups, want = analyze(model, x), model(x)
    monkeypatch.setattr("sentei.graph.surgery._dry_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        remove(model, groups, {"0": torch.tensor([0, 2, 3])}, ((x,), {}))
    assert torch.equal(model(x), want)
    monkeypatch.undo()
    assert remove(model, groups, {"0": torch.tensor([0, 2, 3])}, ((x,), {})).verification.passed
    assert [tuple(t.shape) for t in model.buffers()][:2] == [(3,), (3,)]
    model(x).sum().backward()


class Choosy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Linear(3, 8), nn.Linear(8, 8)
        self.narrow, self.head = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if x.shape[-1] > 7:
            x = x + self.wide(x)
        return self.head(self.narrow(x))


def test_a_branch_taken_on_a_width_is_named() -> None:
    model, x = Choosy(), torch.randn(2, 3)
    with pytest.raises(Mismatch, match="another branch: it now runs narrow where it ran wide"):
        remove(model, analyze(model, x), {"stem": torch.arange(6)}, ((x,), {}))
    assert model.stem.out_features == 8


class Handmade(nn.Module):
    """Calls attention as a function of torch, whose inside is Python."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.heads = 12, 3
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 2)
        self.inside, self.bias = nn.Parameter(torch.randn(36, 12)), nn.Parameter(torch.randn(36))
        self.out = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y, _ = F.multi_head_attention_forward(
            x, x, x, self.width, self.heads, self.inside, self.bias, None, None, False, 0.0,
            self.out.weight, self.out.bias, need_weights=False,
        )  # fmt: skip
        return self.head(y)


def test_numbers_are_followed_through_functions_of_torch() -> None:
    model, x = Handmade().double(), torch.randn(4, 2, 5, dtype=torch.float64)
    before = F.has_torch_function
    result = sentei.prune(model, x, target=sentei.Target(width=0.5), granularity="both")
    assert F.has_torch_function is before
    assert result.verification.passed
    assert model.width == model.stem.out_features < 12
    assert model(torch.randn(6, 1, 5, dtype=torch.float64)).shape == (6, 1, 2)


class Shift(nn.Module):
    """Moves an eighth of the channels each way, by slices whose ends are numbers like any other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        fold = x.shape[1] // 8
        out = torch.zeros_like(x)
        out[:-1, :fold] = x[1:, :fold]
        out[1:, fold : 2 * fold] = x[:-1, fold : 2 * fold]
        out[:, 2 * fold :] = x[:, 2 * fold :]
        return self.head(out.mean((2, 3)))


def test_the_end_of_a_slice_is_not_taken_for_its_dimension() -> None:
    model, x = Shift().double(), torch.randn(3, 2, 5, 5, dtype=torch.float64)
    assert analyze(model, x).pinned.keys().isdisjoint({"stem/0", "stem/1", "stem/2"})
    assert sentei.prune(model, x, target=sentei.Target(width=0.5)).verification.passed
    assert model.stem.out_channels == 8


class Force(nn.Module):
    """Answers with the gradient of what it computes, as force fields do."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.embed, self.inside = nn.Linear(3, 12), nn.Linear(12, 10)
        self.norm = nn.LayerNorm(10) if norm else nn.Identity()
        self.energy, self.weigh = nn.Linear(10, 1), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            hidden = self.embed(x).tanh()
            energy = self.energy(self.norm(self.inside(hidden).sin())).sum()
            force, pull = torch.autograd.grad(energy, (x, hidden), create_graph=True)
        return energy, self.weigh(pull) - force.sum(-1, keepdim=True)


def test_gradients_taken_in_the_forward_are_those_of_the_silenced_original() -> None:
    torch.manual_seed(0)
    model, x = Force().double(), torch.randn(4, 3, dtype=torch.float64)
    reference = copy.deepcopy(model)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and result.verification.conclusive
    assert (model.embed.out_features, model.inside.out_features) == (6, 5)
    with torch.no_grad():
        for name, layer in {"embed": reference.embed, "inside": reference.inside}.items():
            gone = [u for u in range(layer.out_features) if u not in result.keep[name].tolist()]
            layer.weight[gone], layer.bias[gone] = 0, 0
            (reference.inside if name == "embed" else reference.energy).weight[:, gone] = 0
            if name == "embed":
                reference.weigh.weight[:, gone] = 0
    y = torch.randn(7, 3, dtype=torch.float64)
    for mine, theirs in zip(model(y), reference(y), strict=True):
        torch.testing.assert_close(mine, theirs)
    model.train()(x)[1].sum().backward()


def test_a_gradient_of_a_statistic_pins_what_it_is_taken_over() -> None:
    model, x = Force(norm=True).double(), torch.randn(4, 3, dtype=torch.float64)
    groups = analyze(model, x)
    assert list(groups) == ["embed"]
    assert "a gradient is taken" in (groups.pinned["inside"].pinned or "")


class Backward(Force):
    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().clone().requires_grad_()
        self.energy(self.inside(self.embed(x))).sum().backward()
        assert x.grad is not None
        return x.grad


def test_a_forward_that_goes_backward_is_refused_in_so_many_words() -> None:
    with pytest.raises(PruneError, match="the forward calls backward"):
        analyze(Backward(), torch.randn(4, 3))


class Mapped(nn.Module):
    """Asks for shapes inside `vmap` and `torch.func`, where tensors have a dimension more."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(3, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        def one(row: Tensor) -> Tensor:
            y = self.inside(row).tanh()
            return self.outside(y * torch.ones(y.shape[-1], dtype=y.dtype) / y.shape[-1] ** 0.5)

        def cube(rows: Tensor) -> Tensor:
            return torch.vmap(one, in_dims=1)(rows).sum(-1)

        return torch.vmap(cube)(x) + torch.vmap(torch.func.jacrev(one))(x[:, :, 0]).sum(-1)


def test_shapes_inside_vmap_are_those_that_the_code_sees() -> None:
    model, x = Mapped().double(), torch.randn(2, 3, 3, dtype=torch.float64)
    shapes = [v.shape for v in capture(model, (x,)).outputs]
    assert shapes == [model(x).shape]
    analyze(model, x)  # sound, if modest: what vmap passes on are numbers of its own


class Cube(nn.Module):
    """A width stands in a product of attributes only, another is one of `nn.Linear`, in a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = (10, 4, 4)
        self.stem, self.head = nn.Conv2d(3, 10, 1), nn.Linear(160, 7)
        self.q, self.k, self.last = nn.Linear(7, 12), nn.Linear(7, 12), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.head(x.view(-1, self.shape[0] * self.shape[1] * self.shape[2]))
        scores = self.q(x) @ self.k(x).mT * self.q.out_features**-0.5
        return self.last(scores.softmax(-1) @ x)


def test_a_width_is_told_from_what_it_is_multiplied_with() -> None:
    torch.manual_seed(0)
    model, x = Cube().double(), torch.randn(3, 3, 4, 4, dtype=torch.float64)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and not result.held
    assert model.shape == (5, 4, 4) and model.q.out_features == 6


class Jitter(nn.Module):
    """Noise of one element in training: what it holds was made by nobody, or drawn by lot."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        if self.training:
            x = x * torch.rand_like(x) * torch.empty(1, dtype=x.dtype).uniform_(0.9, 1.1).exp()
        return self.outside(x)


def test_numbers_drawn_by_lot_come_from_no_width() -> None:
    model, x = Jitter().double(), torch.randn(4, 5, dtype=torch.float64)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5))
    assert result.verification.passed and not result.held
    assert model.inside.out_features == 6


class Ragged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(5, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.nested.nested_tensor([x[:1], x[1:]])
        return torch.nested.to_padded_tensor(self.outside(self.inside(rows).relu()), 0.0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused_in_so_many_words() -> None:
    with pytest.raises(PruneError, match="nested tensors"):
        analyze(Ragged(), torch.randn(4, 5))


class Rearranged(nn.Module):
    """Heads by layers of einops, which are copied from other attributes than they run with."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 36), nn.Linear(12, 5)
        self.split = Rearrange("b n (three h d) -> three b h n d", three=3, h=4)
        self.mix = EinMix(
            "b h n (g c) -> b n (h g e)", weight_shape="g c e", bias_shape="g e", g=1, c=3, e=3
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.qkv(x))
        return self.out(self.mix((q @ k.mT).softmax(-1) @ v))


def test_copies_of_einops_layers_compute_what_the_layers_do(tmp_path) -> None:
    torch.manual_seed(0)
    model, x = Rearranged().double(), torch.randn(2, 5, 6, dtype=torch.float64)
    fresh = copy.deepcopy(model)
    result = sentei.prune(model, x, target=sentei.Target(width=0.5), granularity="both")
    assert result.verification.passed and model.split.axes_lengths["h"] == 2
    loaded = sentei.load(sentei.save(result, tmp_path / "small"), model=fresh)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(other(x), model(x))
