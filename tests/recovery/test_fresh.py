import torch
from torch import nn

from sentei.recovery.fresh import reinitialise


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 4))
        self.inner = nn.MultiheadAttention(4, 2)


def test_everything_is_drawn_anew_and_repeats_from_its_seed():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), Bare(), nn.LSTM(4, 4))
    net[1].running_var.fill_(9.0)
    net[1].weight.data.fill_(3.0)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    state = torch.random.get_rng_state()
    reinitialise(net, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    after = {n: t.clone() for n, t in net.state_dict().items()}
    assert (after["1.running_var"] == 1).all() and (after["1.weight"] == 1).all()
    for name in ("0.weight", "0.bias", "2.table", "2.inner.in_proj_weight", "3.weight_ih_l0"):
        assert not torch.equal(before[name], after[name])
    assert torch.equal(before["2.table"].flatten().sort()[0], after["2.table"].flatten().sort()[0])
    reinitialise(net, seed=3)
    assert torch.equal(net.state_dict()["0.weight"], after["0.weight"])
