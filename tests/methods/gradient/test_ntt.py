"""Card B12."""

import pytest
import torch
from torch.func import functional_call, jvp, vjp

from sentei.allocation.weights import select
from sentei.criteria.tangent import tangent_kernel
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.methods.gradient.ntt import distances
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from tests.methods.gradient.nets import batch, mlp


def pieces(seed=0):
    model = mlp(4, 6, 3, seed=seed)
    values = {n: p.detach().clone() for n, p in model.named_parameters()}
    return model, values, lambda v, x: functional_call(model, v, (x,))


def test_the_kernel_is_symmetric_and_positive():
    _, values, network = pieces()
    x1, x2 = batch(4, 4)[0], batch(5, 4, seed=2)[0]
    one, two = tangent_kernel(network, values, x1, x2), tangent_kernel(network, values, x2, x1)
    assert one.shape == (4, 5, 3, 3)
    torch.testing.assert_close(one, two.permute(1, 0, 3, 2))
    square = tangent_kernel(network, values, x1, x1).permute(0, 2, 1, 3).reshape(12, 12)
    assert torch.linalg.eigvalsh(square).min() > -1e-12


def test_contracting_jacobians_is_pushing_a_pulled_back_output():
    _, values, network = pieces()
    x1, x2 = batch(1, 4)[0], batch(1, 4, seed=2)[0]
    kernel = tangent_kernel(network, values, x1, x2)[0, 0]
    _, pull = vjp(lambda v: network(v, x2), values)
    for k in range(3):
        unit = torch.zeros(1, 3, dtype=torch.float64)
        unit[0, k] = 1.0
        _, pushed = jvp(lambda v: network(v, x1), (values,), (pull(unit)[0],))
        torch.testing.assert_close(kernel[:, k], pushed[0], rtol=1e-10, atol=1e-12)


def test_a_whole_student_is_at_no_distance_and_a_sparse_one_is():
    model, values, _ = pieces()
    weights = {n: v for n, v in values.items() if "weight" in n}
    x = batch(8, 4)[0]
    kernel, outputs = distances(model, values, values, Masks.full(weights), x)
    assert kernel.item() == 0.0 and outputs.item() == 0.0
    masks = select({n: w.abs() for n, w in weights.items()}, 0.3)
    kernel, outputs = distances(model, values, values, masks, x)
    assert kernel > 0 and outputs > 0


def test_the_transfer_brings_the_student_closer_and_needs_no_labels():
    def run(labels):
        model = mlp(4, 12, 3)
        dense = {n: p.detach().clone() for n, p in model.named_parameters()}
        data = batch(64, 4)[0], labels
        given = Setting(model, data, density=0.3, recipe=Recipe(epochs=0))
        masks = apply(METHODS["ntt"], given, steps=60, lr=1e-2, batch_size=16,
                      mask_every=20, decay=0.0).masks  # fmt: skip
        now = {n: p.detach().clone() for n, p in model.named_parameters()}
        return dense, now, masks, model

    dense, now, masks, model = run(torch.zeros(64, dtype=torch.int64))
    x = batch(32, 4, seed=5)[0]
    start = select({n: dense[n].abs() for n in masks}, 0.3, "uniform")
    before, after = distances(model, dense, dense, start, x), distances(model, now, dense, masks, x)
    assert after[1] < 0.5 * before[1]
    assert masks.equal(run(torch.ones(64, dtype=torch.int64))[2])


def test_mistakes_speak():
    given = Setting(mlp(4, 6, 3), batch(20, 4), density=0.5)
    with pytest.raises(PruneError, match="batch_size of at least 2"):
        apply(METHODS["ntt"], given, batch_size=1)
