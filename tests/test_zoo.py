"""The zoo's own check: what it compares, and what its record keeps."""

import json

import torch
from torch import Tensor, nn

from zoo.check import check
from zoo.record import main
from zoo.registry import Entry, Example


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.stem(x)))


class Finder(Small):
    """Returns as many rows as look good: how many depends on what it computes."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[y[:, 0] > 0]


class Masked(Small):
    """The lowest number of the type it was given, in float32: no number at all in float64."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(4, dtype=torch.float32) * torch.finfo(x.dtype).min
        return super().forward(x) + hidden.to(x.dtype)


class Strict(Small):
    """Its gradients want train mode, and training wants targets."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training, "targets are missing"
        return super().forward(x)


class Casting(Small):
    """Casts its router itself, as switch transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        self.head.float()
        return self.head(torch.tanh(self.stem(x)).float()).to(x.dtype)


def outcome(kind: type[nn.Module]):
    def build() -> Example:
        torch.manual_seed(0)
        return Example(kind().eval(), (torch.randn(20, 5),))

    return check(Entry(f"test/{kind.__name__}", "test", build))


def test_a_count_that_depends_on_values_is_the_silenced_originals():
    found = outcome(Finder)
    assert found.status == "pass", found.detail
    assert found.checks["structure"]


def test_networks_that_overflow_in_double_run_in_single_precision():
    assert outcome(Small).precision == "float64"
    found = outcome(Masked)
    assert (found.status, found.precision) == ("pass", "float32"), found.detail


def test_what_the_unpruned_network_does_not_do_either_is_no_failure():
    assert outcome(Strict).status == "pass"


def test_a_network_that_casts_a_part_of_itself_is_loaded_into_one_that_did():
    found = outcome(Casting)
    assert found.status == "pass", found.detail
    assert found.checks["saved"]


def test_the_record_keeps_the_last_outcome_and_why(tmp_path, capsys):
    for i, status in enumerate(["failed", "pass"]):
        networks = [
            {"name": "a", "family": "f", "status": status, "detail": "", "precision": "float64"},
            {"name": f"b{i}", "family": "g", "status": "refused", "detail": "no group",
             "precision": "float32"},
        ]  # fmt: skip
        run = {"commit": f"c{i}", "networks": networks}
        (tmp_path / f"{i}.json").write_text(json.dumps(run))
    out = tmp_path / "results.json"
    main([str(tmp_path / "0.json"), str(tmp_path / "1.json"), "--out", str(out)])
    found = json.loads(out.read_text())
    assert (found["networks"], found["share passed"]) == (3, 0.3333)
    assert found["networks by commit"] == {"c1": 2, "c0": 1}
    assert found["passed"] == ["a"]
    assert found["not passed"]["b1"] == {"status": "refused", "why": "no group"}
    assert found["families"]["g"] == {"refused": 2}
    assert "33.3%" in capsys.readouterr().out
