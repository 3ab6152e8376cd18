"""`sentei export`: a pruned model for other runtimes."""

from __future__ import annotations

import os
from pathlib import Path

import sentei
from sentei.cli.folder import ANSWERS, MODEL
from sentei.graph.errors import PruneError
from sentei.storage.files import RECIPE

__all__ = ["export"]


def export(
    folder: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
) -> sentei.Exported:
    """`sentei.export` of the model in a run's folder, or in an artefact.

    The example inputs are those the run was made with, else those its source knows. A Hugging Face
    folder is OUT/hf of a run, NAME-hf beside an artefact, unless `out` says where.

    Raises:
        PruneError: as `sentei.export`; or there is no pruned model.
    """
    from sentei.storage.checkpoint import load_checkpoint

    path = Path(folder)
    run = (path / MODEL / RECIPE).is_file()
    artefact = path / MODEL if run else path
    if not (artefact / RECIPE).is_file():
        raise PruneError(f"{path} holds no pruned model; give the folder of a finished run")
    inputs = {}
    if run and (path / ANSWERS).is_file():
        args, kwargs = load_checkpoint(path / ANSWERS)["inputs"]
        inputs = {"args": tuple(args), "kwargs": kwargs}
    if to == "hf" and out is None:  # a folder of its own
        out = path / "hf" if run else artefact.with_name(f"{artefact.resolve().name}-hf")
    return sentei.export(artefact, to, out, trust=trust, **inputs)
