"""What a method adds to a training loop: penalties, gradient edits, masks, gates, parameters.

The same hook works in Sentei's loop (`sentei.recovery.train`) and, with three calls a step, in
yours:

>>> import torch
>>> from sentei.hooks import MaskHook
>>> from sentei.structures import Masks
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
>>> hook = MaskHook(Masks({"weight": torch.tensor([[True, False]])}))
>>> hook.start(model, optimizer, steps=3)
>>> for _ in range(3):
...     loss = model(torch.ones(4, 2)).square().mean() + hook.penalty()  # 1: before backward
...     optimizer.zero_grad(); loss.backward()
...     if hook.before_step():                                           # 2: gradients are there
...         _ = optimizer.step()
...     hook.after_step()                                                # 3: weights have moved
>>> hook.finish()
>>> model.weight[0, 1].item()
0.0
"""

from sentei.hooks.base import Hook, Hooks, Stop
from sentei.hooks.distill import Distill
from sentei.hooks.dynamic_sparse import DynamicSparse
from sentei.hooks.early_bird import EarlyBird
from sentei.hooks.extrusion import Extrusion
from sentei.hooks.gradual import GradualHook
from sentei.hooks.graph_masks import GraphMasks
from sentei.hooks.mask import FreezeHook, MaskHook
from sentei.hooks.scores import BernoulliMask, EdgePopup, LearnedMask
from sentei.hooks.second_moment import SecondMoment
from sentei.hooks.snapshot import Snapshot
from sentei.hooks.taylor_momentum import TaylorMomentum

__all__ = [
    "BernoulliMask",
    "Distill",
    "DynamicSparse",
    "EarlyBird",
    "EdgePopup",
    "Extrusion",
    "FreezeHook",
    "GradualHook",
    "GraphMasks",
    "Hook",
    "Hooks",
    "LearnedMask",
    "MaskHook",
    "SecondMoment",
    "Snapshot",
    "Stop",
    "TaylorMomentum",
]
