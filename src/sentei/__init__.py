"""Sentei (剪定): prune any PyTorch network; the smaller network provably does the same.

>>> import torch
>>> import sentei
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> result = sentei.prune(net, torch.randn(3, 4), target=sentei.Target(macs=0.5))
>>> result.before.macs, result.after.macs
(144, 72)
"""

from importlib.metadata import PackageNotFoundError, version

import sentei.startup  # noqa: F401  (before torch: Ctrl-C while it loads is one line)

# ruff: isort: split
from sentei.allocation import Target
from sentei.along import prune_along
from sentei.export import Exported, export
from sentei.graph.errors import PruneError
from sentei.graph.experts import delete_experts, experts
from sentei.graph.groups import analyze
from sentei.graph.layers import delete_layer, insert_layer, layers, replace_layer
from sentei.graph.rules import rule
from sentei.pruning import Result, delete_units, prune
from sentei.sensitivity import Sensitivity, sensitivity
from sentei.sources import Source
from sentei.storage import load, save
from sentei.streaming import Streamed, prune_checkpoint
from sentei.structures.removal import shrink
from sentei.zeros import zeros_report

try:
    __version__ = version("sentei")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0.0.0"

__all__ = [
    "Exported",
    "PruneError",
    "Result",
    "Sensitivity",
    "Source",
    "Streamed",
    "Target",
    "__version__",
    "analyze",
    "delete_experts",
    "delete_layer",
    "delete_units",
    "experts",
    "export",
    "insert_layer",
    "layers",
    "load",
    "prune",
    "prune_along",
    "prune_checkpoint",
    "replace_layer",
    "rule",
    "save",
    "sensitivity",
    "shrink",
    "zeros_report",
]
