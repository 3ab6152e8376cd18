"""The inputs of each weight, seen at the operators."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.criteria.inputs import first_user, observe, order
from sentei.graph.errors import PruneError


def seen(model, x):
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    uses = []
    observe(model, weights, [(x, None)], uses.append)
    return uses, weights


@pytest.mark.parametrize(
    "layer,shape",
    [
        (nn.Linear(5, 7, bias=False), (3, 4, 5)),
        (nn.Conv1d(4, 6, 3, padding=1, dilation=2, bias=False), (2, 4, 11)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (2, 4, 7, 9)),
        (nn.Conv2d(4, 6, (3, 5), padding="same", groups=2, bias=False), (2, 4, 7, 9)),
        (nn.Conv2d(4, 4, 3, groups=4, padding_mode="reflect", padding=1, bias=False), (2, 4, 7, 9)),
        (nn.Conv3d(2, 3, 2, padding="valid", bias=False), (2, 2, 4, 5, 3)),
    ],
)
def test_rows_times_inputs_are_the_outputs(layer, shape):
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    (use,), weights = seen(layer, x)
    products = use.matrix(weights["weight"].detach()) @ use.inputs.mT  # groups, rows, tokens
    outputs = layer(x).detach()
    channels = outputs if isinstance(layer, nn.Linear) else outputs.movedim(1, -1)
    got = products.flatten(0, 1).T.reshape(channels.shape)
    torch.testing.assert_close(got, channels)
    back = use.weight(use.matrix(weights["weight"]), weights["weight"].shape)
    assert torch.equal(back, weights["weight"])


@pytest.mark.parametrize(
    "layer,shape",
    [
        (nn.ConvTranspose1d(4, 6, 3, stride=3, bias=False), (2, 4, 5)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False), (2, 4, 3, 5)),
        (nn.ConvTranspose3d(2, 3, (1, 2, 2), stride=(1, 2, 2), bias=False), (1, 2, 3, 2, 2)),
    ],
)
def test_rows_times_inputs_are_what_a_transposed_convolution_puts_side_by_side(layer, shape):
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    (use,), weights = seen(layer, x)
    weight = weights["weight"].detach()
    assert use.inputs.shape == (layer.groups, x[:, 0].numel(), shape[1] // layer.groups)
    products = use.matrix(weight) @ use.inputs.mT  # groups, channels · kernel, batch · places
    got = products.reshape(layer.out_channels, *weight.shape[2:], shape[0], *shape[2:])
    # (C, kernel…, N, places…) -> (N, C, place, kernel, place, kernel, …)
    n = len(shape) - 2
    order = [d for i in range(n) for d in (2 + n + i, 1 + i)]
    outputs = layer(x).detach()
    torch.testing.assert_close(got.permute(1 + n, 0, *order).reshape(outputs.shape), outputs)
    assert torch.equal(use.weight(use.matrix(weight), weight.shape), weight)


def test_weights_stored_the_other_way_round():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(5, 7))
            self.second = nn.Parameter(torch.randn(7, 2))
            self.bias = nn.Parameter(torch.randn(2))

        def forward(self, x):
            return torch.addmm(self.bias, x @ self.first, self.second)

    uses, weights = seen(Transposed(), torch.randn(3, 5))
    assert [u.name for u in uses] == ["first", "second"] and all(u.transposed for u in uses)
    assert uses[0].matrix(weights["first"]).shape == (1, 7, 5)
    assert torch.equal(uses[0].weight(uses[0].matrix(weights["first"]), (5, 7)), weights["first"])


def test_attention_and_shared_weights_are_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.again = nn.Linear(8, 8)

        def forward(self, x):
            return self.again(self.again(self.block(x)))

    names = [u.name for u in seen(Net(), torch.randn(2, 5, 8))[0]]
    assert names == [
        "block.self_attn.in_proj_weight",
        "block.self_attn.out_proj.weight",
        "block.linear1.weight",
        "block.linear2.weight",
        "again.weight",
        "again.weight",
    ]
    assert torch.backends.mha.get_fastpath_enabled()


def test_it_leaves_flags_alone_and_speaks_of_what_it_cannot_see():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    net[1].eval()
    seen(net, torch.randn(2, 4))
    assert [m.training for m in net] == [True, False, True]

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Bilinear(4, 4, 4), nn.Bilinear(4, 4, 2)

        def forward(self, x):
            return self.b(self.a(x, x), x)

    with pytest.raises(PruneError, match=r"'a\.weight' cannot be seen: .*1 more.*protect"):
        seen(Pairs(), torch.randn(2, 4))


def test_order_is_that_of_execution():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 4)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.a(self.drop(F.relu(self.b(x))))

    net = Backwards()
    weights = {"a.weight": net.a.weight, "b.weight": net.b.weight}
    batch = (torch.randn(2, 4), None)
    assert order(net, weights, batch) == ["b.weight", "a.weight"]
    assert first_user(net, [net.drop], weights, batch) == {net.drop: "a.weight"}


def by_hand(net, x, start):
    """name -> inputs of the weights of a recurrent network, cell by cell; and its outputs."""
    kind = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[type(net)]
    x, seen = x.transpose(0, 1) if net.batch_first else x, {}
    for layer in range(net.num_layers):
        sides = []
        for way in range(2 if net.bidirectional else 1):
            end = f"l{layer}{'_reverse' if way else ''}"
            extra = {"nonlinearity": net.nonlinearity} if kind is nn.RNNCell else {}
            cell = kind(x.shape[2], net.hidden_size, bias=net.bias, **extra).double()
            for own in cell.state_dict():
                cell.get_parameter(own).data.copy_(net.get_parameter(f"{own}_{end}"))
            number = layer * (2 if net.bidirectional else 1) + way
            state = tuple(s[number] for s in start) if kind is nn.LSTMCell else start[number]
            before, outs, there = [], [], x.flip(0) if way else x
            for step in there:
                before.append(state[0] if kind is nn.LSTMCell else state)
                state = cell(step, state)
                outs.append(state[0] if kind is nn.LSTMCell else state)
            seen[f"weight_ih_{end}"] = there.flatten(0, 1)
            seen[f"weight_hh_{end}"] = torch.cat(before)
            outs = torch.stack(outs)
            sides.append(outs.flip(0) if way else outs)
        x = torch.cat(sides, dim=2)
    return seen, x


@pytest.mark.parametrize("layers,both,batch_first", [(1, False, True), (2, True, False)])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, "relu", "no bias"])
def test_recurrent_layers_see_their_inputs_and_their_own_past(kind, layers, both, batch_first):
    torch.manual_seed(0)
    extra = {"relu": {"nonlinearity": "relu"}, "no bias": {"bias": False}}.get(kind, {})
    kind = {"relu": nn.RNN, "no bias": nn.LSTM}.get(kind, kind)
    net = kind(3, 4, layers, bidirectional=both, batch_first=batch_first, dropout=0.0, **extra)
    net = net.double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    hidden = torch.randn(layers * (2 if both else 1), 2 if batch_first else 5, 4).double()
    start = (hidden, hidden / 2) if kind is nn.LSTM else hidden
    weights = {n: p for n, p in net.named_parameters() if p.dim() > 1}
    uses = []
    observe(net, weights, [((x, start), None)], uses.append)
    want, outputs = by_hand(net, x, start)
    torch.testing.assert_close(
        net(x, start)[0], outputs.transpose(0, 1) if batch_first else outputs
    )
    assert [u.name for u in uses] == list(want) == list(weights)
    for use in uses:
        torch.testing.assert_close(use.inputs[0], want[use.name].detach())
    # Without a start it is zeros, and an example may come without a batch.
    (first, second), _ = uses[:2], observe(net, weights, [(x[0], None)], uses.append)
    assert uses[len(want)].inputs.shape[1:] == (5, 3) and first.inputs.shape[2] == 3
    assert second.inputs.shape[2] == 4


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_what_a_projection_is_of_is_not_seen():
    net = nn.LSTM(3, 4, proj_size=2)
    weights = {n: p for n, p in net.named_parameters() if p.dim() > 1}
    with pytest.raises(PruneError, match="'weight_hr_l0' cannot be seen"):
        observe(net, weights, [(torch.randn(5, 2, 3), None)], lambda use: None)
