"""What zeros are worth is measured, and said as it is."""

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError, zeros_report
from sentei.zeros import _csr, _is_2_of_4, break_even


class Clock:
    """A machine on which CSR takes `slope * density` of the dense time."""

    def __init__(self, slope):
        self.slope, self.asked = slope, []

    def operator(self, signature, run):
        self.asked.append(signature)
        assert run().shape[0] == 16
        _, kernel, _, _, density = signature.split()
        return 1e-3 if kernel == "dense" else 1e-3 * self.slope * float(density)


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 64),
        nn.Linear(64, 3),
    )  # fmt: skip


def masked(density=0.25):
    model = net()
    with torch.no_grad():
        for i in (3, 4):
            model[i].weight.copy_(torch.where(torch.rand(64, 64) < density, model[i].weight, 0))
        model[0].weight[:2] = 0
    return model


def test_this_machine():
    report = zeros_report(masked(), batch=16)
    assert [s for r in report.rows for s in r.layers] == ["3", "4"]
    assert report.unsupported == ("0.weight",)
    assert report.threads == torch.get_num_threads() and report.device == "cpu"
    for row in report.rows:
        assert set(row.seconds) == {"dense", "csr"} and min(row.seconds.values()) > 0
        assert row.refused == {"2:4": "needs an NVIDIA GPU (compute capability 8 or newer)"}
        assert row.best == "dense" or row.seconds["csr"] < row.seconds["dense"]
    assert report.verdict.replace("\n", " ") in " ".join(str(report).split())


def test_nowhere_faster_is_said():
    report = zeros_report(masked(), batch=16, stopwatch=Clock(slope=500))
    assert report.faster == () and report.speedup == 1 and report.break_even is None
    assert "Zeros run no faster on this machine" in report.verdict
    assert "CSR pays at none of 0.01 to 0.5" in report.verdict
    assert "to run faster, remove whole units" in report.verdict
    assert "1 tensor with zeros belongs to other layers than linear" in report.verdict


def test_where_it_would_pay():
    report = zeros_report(masked(0.25), batch=16, stopwatch=Clock(slope=8))
    assert report.faster == () and report.break_even == 0.1
    assert "from a density of 0.1 down" in report.verdict


def test_where_it_pays():
    report = zeros_report(masked(0.25), batch=16, stopwatch=Clock(slope=2))
    assert len(report.faster) == len(report.rows) and 1.9 < report.speedup < 2.1
    assert "Zeros run faster" in report.verdict and "64x64 as csr" in report.verdict
    assert "remove whole units" not in report.verdict


def test_noise_is_not_faster():
    report = zeros_report(masked(0.25), batch=16, stopwatch=Clock(slope=3.9))
    assert report.faster == ()


def test_no_zeros():
    report = zeros_report(net())
    assert str(report) == "No weight has zeros worth speaking of."


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_kernels_compute_the_same():
    weight, x = masked()[3].weight.detach(), torch.randn(5, 64)
    torch.testing.assert_close(_csr(weight, x)(), x @ weight.t())


def test_patterns():
    row = torch.tensor([[1.0, 0, 2, 0, 0, 0, 0, 5]])
    assert _is_2_of_4(row) and not _is_2_of_4(row + 1) and not _is_2_of_4(row[:, :6])


def test_masks_are_named():
    report = zeros_report(masked(), masks=["3.weight"], batch=16)
    assert [r.layers for r in report.rows] == [("3",)]
    with pytest.raises(PruneError, match=r"masks: no parameter '3.wieght'; closest: '3.weight'"):
        zeros_report(masked(), masks=["3.wieght"])
    with pytest.raises(PruneError, match=r"batch must be at least 1"):
        zeros_report(masked(), batch=0)


def test_break_even_of_a_machine():
    assert break_even(8, 8, batch=16, stopwatch=Clock(slope=1)) == 0.5
    assert break_even(64, 64, batch=16) in (None, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_two_of_four_on_a_gpu():
    layer = nn.Linear(1024, 1024).cuda().half()
    with torch.no_grad():
        layer.weight.view(-1, 4)[:, :2] = 0
    (row,) = sentei.zeros_report(layer, batch=256).rows
    assert {"dense", "2:4"} <= set(row.seconds)
