"""`sentei verify`: prove a result again, from what is on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sentei
from sentei.cli.answers import answers
from sentei.cli.config import Config, read_config
from sentei.cli.folder import ANSWERS, CONFIG, MODEL, read_result
from sentei.cli.opened import check_trust, example_of, open_all
from sentei.graph.errors import PruneError
from sentei.graph.history import history
from sentei.graph.surgery import remove
from sentei.sources import Source
from sentei.storage.checkpoint import load_checkpoint
from sentei.storage.files import RECIPE
from sentei.storage.recipe import decode, parse

__all__ = ["Check", "verify"]

# Kernels differ between machines; on the one that wrote it, a model answers to the bit. A GPU may
# have multiplied with ten bits (TF32) where this CPU has 23.
_TOLERANCE, _TOLERANCE_GPU = 1e-4, 1e-2


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and how it came out."""

    what: str
    passed: bool
    found: str


def verify(folder: str | os.PathLike[str], *, trust: bool = False) -> list[Check]:
    """Look at a run's folder, or at an artefact, as if someone else had written it.

    1. The artefact is whole: format, sizes, SHA-256.
    2. A fresh model is built from its source, cut, and takes all weights.
    3. For runs: the same units are removed from an unpruned model again, and what comes out equals
       the unpruned model with those units silenced; its shapes are those of the artefact.
    4. For runs: the loaded model answers what it answered when it was saved.

    Args:
        trust: run the file that builds the model, where it is `file.py:function`.
    Returns:
        the checks made; the first that fails is the last.
    Raises:
        PruneError: there is nothing to verify.
    """
    path = Path(folder)
    run = (path / MODEL / RECIPE).is_file()
    artefact = path / MODEL if run else path
    if not (artefact / RECIPE).is_file():
        read_result(path)  # says what is missing
        raise PruneError(f"{path} holds no pruned model")
    checks = []
    for check in _checks(path, artefact, run, trust):
        checks.append(check)
        if not check.passed:
            break
    return checks


def _checks(path: Path, artefact: Path, run: bool, trust: bool) -> Iterator[Check]:
    try:
        recipe = parse(artefact)
        if recipe.source is None:
            raise PruneError("the artefact does not say how its model is built")
    except PruneError as error:
        yield Check("artefact", False, str(error))
        return
    check_trust(artefact, recipe.source.kind, trust)
    try:
        # Loading compares every size and the digest of the weights before it uses them.
        model = sentei.load(artefact, trust=trust)
    except PruneError as error:
        yield Check("artefact", False, str(error))
        return
    count = sum(p.numel() for p in model.parameters())
    yield Check("artefact", True, "format, sizes and SHA-256 as written")
    source = Source(**recipe.source.model_dump())
    yield Check("model", True, f"built from {source}, cut, {count:,} parameters filled in")
    if not run:
        return
    result = read_result(path)
    stored = load_checkpoint(path / ANSWERS)
    if any(result["units"]) or any(result["layers"]):
        yield _exact(path, result, model, trust, example_of(path))
    gpu = result["machine"]["device"] != "cpu"
    yield _answers(model, stored, _TOLERANCE_GPU if gpu else _TOLERANCE)


def _exact(
    path: Path, result: dict[str, Any], pruned: torch.nn.Module, trust: bool, example: Any
) -> Check:
    """Remove the units again, from a model with the weights it is built with."""
    config = Config.of(read_config(path / CONFIG)).model_copy(
        update={"weights": None, "device": "cpu", "trust": trust}
    )
    if example is not None:  # data that is gone since, or changed, is of no matter
        config = config.model_copy(update={"data": None})
    opened = open_all(config, example=example)
    model, worst, conclusive = opened.model, 0.0, True
    for units, layers in zip(result["units"], result["layers"], strict=True):
        for layer in layers:
            sentei.delete_layer(model, layer, **opened.inputs())
        groups = sentei.analyze(model, **opened.inputs(), protect=config.protect)
        try:
            keep = {name: _decoded(kept, groups[name].size) for name, kept in units.items()}
            surgery = remove(model, groups, keep, opened.call(), verify=True)
        except (PruneError, KeyError) as error:  # KeyError: no such group
            return Check("cut", False, str(error.args[0]))
        if surgery.verification is not None:
            worst = max(worst, surgery.verification.error)
            conclusive = conclusive and surgery.verification.conclusive
    again, saved = history(model).kept, history(pruned).kept
    if _kept(again) != _kept(saved):
        return Check("cut", False, "the artefact keeps other units than the run wrote down")
    close = f"within {worst:.0e}" if worst else "to the last digit"
    words = f"equal to the silenced original {close}, and the units are those kept"
    return Check("cut", True, words if conclusive else words + " (the example does not show them)")


def _decoded(kept: str | list[str], size: int) -> Tensor:
    if isinstance(kept, str):
        return decode(kept, size)
    return torch.stack([decode(row, size) for row in kept])


def _kept(found: Any) -> dict[str, dict[int, list[int]]]:
    return {
        name: {d: positions.tolist() for d, (_, positions) in dims.items()}
        for name, dims in found.items()
    }


def _answers(model: torch.nn.Module, stored: dict[str, Any], tolerance: float) -> Check:
    given = answers(model, stored["inputs"])
    wanted = stored["outputs"]
    if [t.shape for t in given] != [t.shape for t in wanted]:
        return Check("answers", False, "the outputs have other shapes than when it was saved")
    if all(torch.equal(a, b) for a, b in zip(given, wanted, strict=True)):
        return Check("answers", True, "the same as when it was saved, bit for bit")
    worst = max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30))
        for a, b in zip(given, wanted, strict=True)
    )
    words = f"within {worst:.0e} of those when it was saved (relative)"
    return Check("answers", worst <= tolerance, words)
