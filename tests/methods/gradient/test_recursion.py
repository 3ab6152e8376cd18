"""Card B1: the recursion of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sentei.criteria.derivatives import gauss_newton_diagonal, hessian_diagonal
from sentei.criteria.recursion import recursive_diagonal
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from tests.methods.gradient.nets import batch, convnet, evidence, mlp
from tests.methods.magnitude.nets import setting


def squares(*shape):
    """Inputs, targets and a squared error for them."""
    x, _ = batch(*shape)
    torch.manual_seed(1)
    return x, torch.randn(shape[0], 3, dtype=torch.float64)


def chain(*layers, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *[layer() if isinstance(layer, type) else layer for layer in layers]
    ).double()


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("last", [nn.Identity, nn.Sigmoid])
def test_with_one_hidden_layer_and_squared_error_it_is_the_hessians_diagonal(last):
    model = chain(nn.Linear(4, 6), nn.Tanh, nn.Linear(6, 3), last)
    about = evidence(model, squares(9, 4), F.mse_loss)
    got, exact = recursive_diagonal(about), hessian_diagonal(about, None)
    for name in ("0.weight", "2.weight"):
        close(got[name], exact[name].double())


def test_without_second_derivatives_it_is_gauss_newtons_and_never_negative():
    model = chain(nn.Linear(4, 6), nn.Tanh, nn.Linear(6, 3), nn.Tanh)
    about = evidence(model, squares(9, 4), F.mse_loss)
    got, want = recursive_diagonal(about, second=False), gauss_newton_diagonal(about)
    assert any((v < 0).any() for v in recursive_diagonal(about).values())
    for name in want:
        close(got[name], want[name])
        assert (got[name] >= 0).all()


def test_in_a_linear_network_it_is_gauss_newtons_in_the_last_two_layers():
    model = chain(nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3))
    about = evidence(model, squares(9, 4), F.mse_loss)
    got, want = recursive_diagonal(about), gauss_newton_diagonal(about)
    close(got["1.weight"], want["1.weight"])
    close(got["2.weight"], want["2.weight"])
    assert not torch.allclose(got["0.weight"], want["0.weight"])  # outputs act together there


def test_deeper_it_is_the_papers_formulas_written_out():
    """Plain loops over examples, layers and neurons; a' and a'' of tanh by hand."""
    model = chain(nn.Linear(3, 4), nn.Tanh, nn.Linear(4, 5), nn.Tanh, nn.Linear(5, 3))
    x, y = squares(5, 3)
    weights = [model[i].weight.detach() for i in (0, 2, 4)]
    biases = [model[i].bias.detach() for i in (0, 2, 4)]
    want = [torch.zeros_like(w) for w in weights]
    for example, target in zip(x, y, strict=True):
        inputs, activations = [example], []
        for w, b in zip(weights, biases, strict=True):
            activations.append(w @ inputs[-1] + b)
            inputs.append(torch.tanh(activations[-1]))
        out = activations[-1]  # the last layer is linear
        curve = torch.full((3,), 2 / 3, dtype=torch.float64)
        slope = 2 / 3 * (out - target)
        for level in (2, 1, 0):
            for i in range(len(weights[level])):
                for j in range(weights[level].shape[1]):
                    want[level][i, j] += curve[i] * inputs[level][j] ** 2 / len(x)
            if level:
                f = inputs[level]
                first, bend = 1 - f**2, -2 * f * (1 - f**2)
                below = [
                    sum(weights[level][k, j] ** 2 * curve[k] for k in range(len(curve)))
                    for j in range(len(f))
                ]
                back = weights[level].T @ slope
                curve = torch.stack(below) * first**2 + bend * back
                slope = back * first
    got = recursive_diagonal(evidence(model, (x, y), F.mse_loss))
    for name, value in zip(("0.weight", "2.weight", "4.weight"), want, strict=True):
        close(got[name], value)


def test_shared_weights_get_the_sum_over_their_uses():
    """A convolution and an average pooling against the matrices they are."""
    conv, pool = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.AvgPool2d(2)
    model = chain(conv, nn.Tanh, pool, nn.Flatten, nn.Linear(8, 3))
    x, y = squares(4, 1, 4, 4)
    basis = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    with torch.no_grad():
        ids = torch.arange(1.0, 19.0, dtype=torch.float64).view(2, 1, 3, 3)
        places = F.conv2d(basis, ids, padding=1).flatten(1).T.round().long()  # whose weight it is
        wide = torch.eye(32, dtype=torch.float64).view(32, 2, 4, 4)
        flat = chain(
            nn.Flatten, nn.Linear(16, 32, bias=False), nn.Tanh, nn.Linear(32, 8, bias=False),
            nn.Linear(8, 3),
        )  # fmt: skip
        flat[1].weight.copy_(conv(basis).flatten(1).T)
        flat[3].weight.copy_(pool(wide).flatten(1).T)
        flat[4].load_state_dict(model[4].state_dict())
    close(flat(x), model(x))
    got = recursive_diagonal(evidence(model, (x, y), F.mse_loss))
    dense = recursive_diagonal(evidence(flat, (x, y), F.mse_loss))
    close(got["4.weight"], dense["4.weight"])
    for number in range(18):
        uses = dense["1.weight"][places == number + 1].sum()
        close(got["0.weight"].view(-1)[number], uses)


@pytest.mark.parametrize("norm", [False, True])
def test_a_batch_norm_is_the_scale_that_it_folds_into(norm):
    model, (x, y) = convnet(norm).eval(), batch(4, 2, 8, 8)
    if norm:
        model[1].running_var.uniform_(0.5, 2.0)
        model[1].weight.data.uniform_(0.5, 2.0)
        model[1].running_mean.normal_()
    got = recursive_diagonal(evidence(model, (x, y)))
    assert set(got) == {n for n, p in model.named_parameters() if p.dim() > 1}
    if norm:
        folded = convnet(norm)
        folded.load_state_dict(model.state_dict())
        scale = (folded[1].weight / (folded[1].running_var + folded[1].eps).sqrt()).detach()
        conv = nn.Conv2d(2, 4, 3, padding=1).double()
        conv.weight.data = folded[0].weight.data * scale[:, None, None, None]
        conv.bias.data = folded[1].bias.data - scale * folded[1].running_mean
        plain = nn.Sequential(conv, *list(folded)[2:])
        want = recursive_diagonal(evidence(plain, (x, y)))
        close(got["0.weight"], want["0.weight"] * scale[:, None, None, None] ** 2)


def test_activations_in_place_and_dropout_change_nothing():
    plain, inplace = mlp(4, 6, 5, 3), mlp(4, 6, 5, 3)
    inplace = nn.Sequential(*[
        nn.ReLU(inplace=True) if isinstance(m, nn.ReLU) else m for m in inplace
    ], nn.Dropout(0.5))  # fmt: skip
    data = batch(7, 4)
    want = recursive_diagonal(evidence(plain, data))
    for name, got in recursive_diagonal(evidence(inplace, data)).items():
        close(got, want[name])
    # Batches are examples, however many come at once.
    parts = [(data[0][:3], data[1][:3]), (data[0][3:], data[1][3:])]
    for name, got in recursive_diagonal(evidence(plain, parts)).items():
        close(got, want[name])


@pytest.mark.parametrize("curvature", ["recursion", "levenberg-marquardt"])
def test_the_method_takes_it(curvature):
    outcome = apply(METHODS["obd"], setting(0.25), curvature=curvature)
    assert outcome.kept == round(0.25 * outcome.weights)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        return self.two(x + self.one(x))


class Functional(Residual):
    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


class Softened(Residual):
    def forward(self, x):
        return self.two(self.one(x)).softmax(1)


class Halved(Residual):
    def forward(self, x):
        return self.two(self.one(x / 2))


class Scaled(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight.abs(), self.bias)


@pytest.mark.parametrize(
    "build,words",
    [
        (Residual, "'two' .* not given what 'one' gave"),
        (Functional, "'two' .* not given what 'one' gave"),
        (Softened, "outputs are not what its last layer gave"),
        (Halved, "'one' .* changed before the first layer"),
        (lambda: chain(nn.Linear(4, 3), nn.LayerNorm(3)), "no rule for LayerNorm"),
        (lambda: chain(Scaled(4, 3)), "no rule for Scaled"),
        (lambda: weight_norm(nn.Linear(4, 3).double()), "chain of layers"),
        (
            lambda: chain(nn.Unflatten(1, (1, 4)), nn.AvgPool1d(3, 2, 1, count_include_pad=False),
                          nn.Flatten, nn.Linear(2, 3)),
            "windows of several sizes",
        ),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused(build, words):
    model = build()
    with pytest.raises(PruneError, match=f"{words}.*(gauss-newton|hutchinson)"):
        recursive_diagonal(evidence(model, batch(3, 4)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(PruneError, match="the recursion needs loss="):
        recursive_diagonal(evidence(model, batch(3, 4), None))
