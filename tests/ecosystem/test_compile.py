"""torch.compile takes pruned models whole."""

import copy
import os
import shutil

import pytest
import torch
from torch import nn

import sentei
from tests.ecosystem.pruned import pruned_convnet, pruned_llama


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_graph(backend):
    model, x = pruned_convnet()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


COMPILERS = [c for c in (os.environ.get("CXX"), "g++", "clang++", "cl") if c and shutil.which(c)]


@pytest.mark.skipif(not COMPILERS, reason="inductor needs a C++ compiler, and there is none here")
def test_inductor_compiles_and_computes_the_same():
    """With the C++ compiler of this machine."""
    from torch._inductor import config, metrics

    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 5)).eval(),
        torch.randn(4, 6),
    )
    sentei.prune(model, x, target=sentei.Target(macs=0.5))
    metrics.reset()
    # Graphs anew; the C++ that comes out is compiled once on a machine, as torch keeps that.
    with config.patch(fx_graph_cache=False), torch.no_grad():
        compiled = torch.compile(model, backend="inductor", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x))
    assert metrics.generated_kernel_count > 0


def test_looking_for_layers_leaves_no_hook():
    """With a global hook anywhere, torch.compile warns at every call."""
    model, x = pruned_convnet()
    sentei.layers(model, x)
    assert not torch.nn.modules.module._has_any_global_hook()


def test_gradients():
    model, x = pruned_convnet()
    other = copy.deepcopy(model)
    model(x).square().sum().backward()
    torch.compile(other, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_language_model():
    model, ids = pruned_llama()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        want = model(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(compiled(input_ids=ids, use_cache=False).logits, want)


def test_pruning_a_compiled_model():
    """The wrapper stays, and compiles anew for the new widths."""
    model, x = pruned_convnet()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        compiled(x)
        sentei.prune(compiled, x, target=sentei.Target(macs=0.7))
        torch.testing.assert_close(compiled(x), model(x))
