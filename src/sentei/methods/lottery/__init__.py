"""Lottery tickets, supermasks, and training that stays sparse throughout."""

from sentei.methods.base import Method

__all__ = ["LOTTERY"]

LOTTERY: dict[str, Method] = {}
