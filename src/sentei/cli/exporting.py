"""`sentei export`: a pruned model for other runtimes."""

from __future__ import annotations

import os
from pathlib import Path

import sentei
from sentei.cli.folder import MODEL
from sentei.cli.opened import check_trust, example_of, shaped
from sentei.graph.errors import PruneError
from sentei.storage.files import RECIPE
from sentei.storage.recipe import parse

__all__ = ["export"]


def export(
    folder: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str] | None = None,
    *,
    input: str | None = None,
    trust: bool = False,
) -> sentei.Exported:
    """`sentei.export` of the model in a run's folder, or in an artefact.

    The example inputs are of the shape `input`, or those the run was made with, or those that the
    model's source knows. A Hugging Face folder is OUT/hf of a run, NAME-hf beside an artefact,
    unless `out` says where.

    Raises:
        PruneError: as `sentei.export`; or there is no pruned model.
    """
    path = Path(folder)
    run = (path / MODEL / RECIPE).is_file()
    artefact = path / MODEL if run else path
    if not (artefact / RECIPE).is_file():
        raise PruneError(f"{path} holds no pruned model; give the folder of a finished run")
    source = parse(artefact).source
    check_trust(artefact, "" if source is None else source.kind, trust)
    example = shaped(input) if input is not None else example_of(path)
    if example is None and to != "hf" and source is not None and source.kind == "file":
        raise PruneError(f"what inputs does {source.name} take? Give --input, such as 1x3x32x32")
    if to == "hf" and out is None:  # a folder of its own
        out = path / "hf" if run else artefact.with_name(f"{artefact.resolve().name}-hf")
    return sentei.export(artefact, to, out, example_inputs=example, trust=trust)
