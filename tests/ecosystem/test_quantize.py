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


def test_quantisation_aware_training_of_an_exported_graph():
    """PT2E: exported, prepared for int8, trained, and converted to what was trained."""
    pt2e = pytest.importorskip("torchao.quantization.pt2e")
    steps = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 8)).eval(),
        torch.randn(8, 6),
    )
    sentei.prune(model, x, target=sentei.Target(macs=0.5))
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    exported = torch.export.export(model.train(), (x,)).module()
    prepared = steps.prepare_qat_pt2e(exported, quantizer)
    optimizer, losses = torch.optim.SGD(prepared.parameters(), 0.1), []
    for _ in range(4):
        losses.append(F.cross_entropy(prepared(x), torch.arange(8)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    pt2e.move_exported_model_to_eval(prepared)
    trained = prepared(x)
    converted = steps.convert_pt2e(prepared)
    assert relative(converted(x), trained) < 0.02  # a step of int8 or two
    kinds = {str(node.target) for node in converted.graph.nodes}
    assert any("dequantize_per_channel" in kind for kind in kinds)
