"""Bytes on disk: pruned models as folders of plain data, without pickle."""

from sentei.storage.loading import load, masks
from sentei.storage.saving import save

__all__ = ["load", "masks", "save"]
