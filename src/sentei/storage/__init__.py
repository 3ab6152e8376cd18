"""Bytes on disk: pruned models as folders of plain data, without pickle."""

from sentei.storage.loading import load
from sentei.storage.saving import save

__all__ = ["load", "save"]
