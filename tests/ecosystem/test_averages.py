"""Averages of the weights (EMA, SWA) lose what the model loses, and go on averaging."""

import copy

import pytest
import torch
import transformers
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import sentei
from sentei import PruneError, Target, prune_along
from sentei.graph.history import history
from tests.ecosystem.pruned import convnet, llama
from tests.graph.test_layers import built


def drift(model, average, steps=3):
    for _ in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p), alpha=0.1)
        average.update_parameters(model)


def test_an_average_is_pruned_along():
    model, x = convnet(), torch.randn(4, 3, 12, 12)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    drift(model, average)
    whole = {n: p.clone() for n, p in average.module.named_parameters()}
    result = sentei.prune(model, x, target=Target(macs=0.5))
    prune_along(result, average)
    for name, p in average.module.named_parameters():
        want = whole[name]
        for dim, positions in result.surgery.kept.get(name, {}).items():
            want = want.index_select(dim, positions)
        assert torch.equal(p, want)
    drift(model, average)
    assert average.n_averaged == 6
    update_bn([x], average)
    assert average(x).shape == (4, 10)


def test_an_average_can_be_made_anew():
    model, x = convnet(), torch.randn(4, 3, 12, 12)
    sentei.prune(model, x, target=Target(macs=0.5))
    average = AveragedModel(model)
    drift(model, average)
    assert average(x).shape == (4, 10)
    folder_ready = history(average.module)  # copies remember, so an average can be saved
    assert folder_ready.kept.keys() == history(model).kept.keys()


@pytest.mark.parametrize("uniform", [False, True])
def test_configurations_follow(uniform):
    model, ids = llama(), torch.randint(64, (2, 9))
    average = AveragedModel(model)
    result = sentei.prune(model, ids, target=Target(params=0.7), uniform=uniform)
    prune_along(result, average)
    assert average.module.config.to_dict() == model.config.to_dict()
    with torch.no_grad():
        torch.testing.assert_close(average.module(ids).logits, model(ids).logits)
    if uniform:
        config = average.module.config
        fresh = transformers.LlamaForCausalLM(config)
        fresh.load_state_dict(average.module.state_dict())


def test_layers_go_along():
    model, (x,), _ = built("plain")
    with torch.no_grad():
        for p in model.blocks[1].parameters():
            p.mul_(1e-3)
    copied = copy.deepcopy(model)
    result = sentei.prune(model, x, target=Target(params=0.5), depth=True)
    assert result.layers
    prune_along(result, copied)
    torch.testing.assert_close(copied(x), model(x))
    assert history(copied).gone == history(model).gone


def test_what_is_no_copy_is_refused_and_all_copies_stay(tmp_path):
    model, x = convnet(), torch.randn(4, 3, 12, 12)
    good, bad = copy.deepcopy(model), convnet()
    bad[7] = nn.Linear(32, 65)
    before = copy.deepcopy(good.state_dict())
    result = sentei.prune(model, x, target=Target(macs=0.5))
    with pytest.raises(PruneError, match=r"no copy of the model .*7.weight has shape \[65, 32\]"):
        prune_along(result, good, bad)
    assert all(torch.equal(t, before[n]) for n, t in good.state_dict().items())
    assert not history(good) and good(x).shape == (4, 10)
    with pytest.raises(PruneError, match="not a copy of it"):
        prune_along(result, model)
    with pytest.raises(PruneError, match="dry run"):
        prune_along(sentei.prune(good, x, target=Target(macs=0.5), dry_run=True), good)
