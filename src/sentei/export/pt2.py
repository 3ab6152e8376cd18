"""`torch.export` programs as `.pt2` files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch
from torch import nn

from sentei.export.compare import agree, outputs
from sentei.export.export import Call, Exported
from sentei.export.program import program
from sentei.storage.atomic import replace_file

__all__ = ["write"]

_NOTE = (
    "Read it with torch.export.load(path).module(); that unpickles, so only open files that you "
    "or people you trust wrote"
)


def write(model: nn.Module, call: Call, path: Path, *, dynamic: bool, tolerance: float) -> Exported:
    """Export, save, read back, compare, then put in place."""
    made = program(model, call, dynamic=dynamic)
    errors: list[float] = []

    def fill(new: Path) -> None:
        # Through memory: where a disk is full, torch's own writer ends the whole process.
        packed = io.BytesIO()
        torch.export.save(made.exported, packed)
        new.write_bytes(packed.getbuffer())
        with open(new, "rb") as file:
            again = torch.export.load(file).module()
        for batch, now in made.calls().items():
            with torch.no_grad():
                wanted, got = outputs(model(*now[0], **now[1])), outputs(again(*now[0], **now[1]))
            errors.append(agree(got, wanted, tolerance, f"the exported program (batch {batch})"))

    done = replace_file(path, fill)
    return Exported(
        done,
        "pt2",
        os.path.getsize(done),
        max(errors),
        tolerance,
        compared=tuple(made.calls()),
        dynamic=made.names,
        note=_NOTE,
    )
