"""torchao quantises pruned models, and trains them for it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import PruneError
from tests.ecosystem.pruned import pruned_convnet, pruned_llama

quantization = pytest.importorskip("torchao.quantization")
qat = pytest.importorskip("torchao.quantization.qat")


def relative(got, want):
    return ((got - want).norm() / want.norm()).item()


@pytest.mark.parametrize(
    "config", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"]
)
@torch.no_grad()
def test_int8(config):
    model, ids = pruned_llama()
    want = model(input_ids=ids).logits
    quantization.quantize_(model, getattr(quantization, config)())
    assert relative(model(input_ids=ids).logits, want) < 0.05
    assert type(model.model.layers[0].mlp.up_proj.weight) is not nn.Parameter
    with pytest.raises(PruneError, match=r"is no dense tensor .*save before converting it"):
        sentei.save(model, "nowhere")


def test_quantisation_aware_training():
    model, x = pruned_convnet()
    model.train()
    base = quantization.Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=quantization.PerAxis(0)
    )
    quantization.quantize_(model, qat.QATConfig(base, step="prepare"))
    assert isinstance(model[7], qat.FakeQuantizedLinear)
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.1), []
    for _ in range(4):
        losses.append(F.cross_entropy(model(x), torch.arange(8)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    trained = model.eval()(x)
    quantization.quantize_(model, qat.QATConfig(base, step="convert"))
    torch.testing.assert_close(model(x), trained)
