"""A run under way: what its stages have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import sentei
from sentei.cli.config import Config
from sentei.cli.folder import Run
from sentei.cli.opened import Opened
from sentei.cli.pruning.telling import Quiet
from sentei.cli.team import Team
from sentei.structures.masks import Masks

__all__ = ["Work"]


@dataclass(eq=False)
class Work:
    """What a stage is given, and where it leaves what the next one needs.

    run: the folder and its journal. report: who is told. opened: the model and data as they were
    found. model: as the stages so far have left it. masks: which weights stay, where a method
    keeps zeros.
    """

    run: Run
    report: Quiet
    opened: Opened
    model: nn.Module
    masks: Masks | None = None

    @property
    def config(self) -> Config:
        return self.run.config

    @property
    def team(self) -> Team:
        return self.run.team

    def load(self, folder: Path) -> nn.Module:
        """The model that a stage has saved, as a fresh one, in eval mode."""
        return sentei.load(folder, model=self.opened.fresh()).to(self.opened.device).eval()
