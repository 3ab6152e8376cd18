import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.hooks import MaskHook
from sentei.recovery.train import Recipe, train
from sentei.structures import Masks, prunable


def test_they_survive_save_and_load(tmp_path):
    masks = Masks({"a.weight": torch.rand(3, 4) > 0.5, "b": torch.rand(2) > 0.5})
    masks.save(tmp_path / "masks.safetensors")
    assert Masks.load(tmp_path / "masks.safetensors").equal(masks)


def test_a_damaged_file_speaks(tmp_path):
    (tmp_path / "masks.safetensors").write_bytes(b"no")
    with pytest.raises(PruneError, match="cannot read masks"):
        Masks.load(tmp_path / "masks.safetensors")


def test_merging():
    one = Masks({"a": torch.tensor([True, False]), "b": torch.tensor([True])})
    two = Masks({"a": torch.tensor([True, True])})
    assert (one & two)["a"].tolist() == [True, False] and (one & two)["b"].tolist() == [True]
    assert (one | two)["a"].tolist() == [True, True]


def test_momentum_and_decay_do_not_wake_masked_weights():
    model = nn.Linear(4, 2)
    masks = Masks({"weight": torch.tensor([[True, False, True, False]] * 2)})
    data = torch.randn(32, 4), torch.randint(2, (32,))
    train(model, data, Recipe(3, 0.5, 8, momentum=0.9, weight_decay=0.1), hooks=[MaskHook(masks)])
    assert not model.weight[:, 1::2].count_nonzero() and model.weight[:, ::2].all()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_attached_they_hold_in_any_loop_until_they_are_removed(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    names = list(model.state_dict())
    one = Masks({"0.weight": torch.rand(6, 4) > 0.5})
    two = one & Masks({"0.weight": torch.rand(6, 4) > 0.3, "2.weight": torch.rand(2, 6) > 0.5})
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.1, **momentum)
    x, y = torch.randn(16, 4), torch.randint(2, (16,))

    def steps(run, masks=None):
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(run(x), y).backward()
            optimizer.step()
            parameters = dict(model.named_parameters())
            for name, mask in (masks or {}).items():
                assert not parameters[name][~mask].count_nonzero()

    handle = one.attach(model, optimizer)
    steps(torch.compile(model, backend="eager"), one)
    handle.remove()
    handle = two.attach(model, optimizer)  # others from now on
    steps(model, two)
    assert list(model.state_dict()) == names
    handle.remove()
    steps(model)
    assert model[0].weight.all()
    with pytest.raises(PruneError, match="shape"):
        Masks({"0.weight": torch.ones(4, dtype=torch.bool)}).attach(model, optimizer)


def test_a_mask_that_does_not_fit_speaks():
    with pytest.raises(PruneError, match="no such parameter; closest: 'weight'"):
        Masks({"weigth": torch.ones(2, 4, dtype=torch.bool)}).apply_(nn.Linear(4, 2))
    with pytest.raises(PruneError, match="shape"):
        Masks({"weight": torch.ones(4, dtype=torch.bool)}).apply_(nn.Linear(4, 2))


def test_what_is_prunable():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.mix = nn.LSTM(3, 3)
            self.norm = nn.LayerNorm(3)
            self.head = nn.Linear(3, 5)
            self.head.weight = self.embed.weight

    assert list(prunable(Tied())) == ["mix.weight_ih_l0", "mix.weight_hh_l0"]
    with pytest.raises(PruneError, match="no weights to prune"):
        prunable(nn.LayerNorm(3))
    with pytest.raises(PruneError, match="protect: 'hed'"):
        prunable(Tied(), protect=["hed"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_held_weights_are_plain_zero_whatever_they_were(dtype):
    layer = nn.Linear(3, 2).to(dtype)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    hook = MaskHook(Masks({"weight": mask}))
    hook.start(layer, torch.optim.SGD(layer.parameters(), lr=0.1), 1)
    values = torch.tensor([[1.5, float("nan"), -2.0], [-3.0, 0.5, float("inf")]], dtype=dtype)
    layer.weight.data.copy_(values)
    hook.after_step()
    assert torch.equal(layer.weight[mask], values[mask])
    assert layer.weight[~mask].tolist() == [0, 0, 0]
    assert not torch.signbit(layer.weight[~mask]).any()
