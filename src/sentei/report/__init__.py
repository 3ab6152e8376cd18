"""Results for people: a page for a pruned model, and a map of the field."""

from sentei.report.map import write_map
from sentei.report.network import describe, layer_seconds
from sentei.report.run import write

__all__ = ["describe", "layer_seconds", "write", "write_map"]
