"""Results for people: a page for a pruned model, and a map of the field."""

from sentei.report.map import write_map

__all__ = ["write_map"]
