"""Plain removal of whole units by one criterion: the baselines of structured pruning."""

from sentei.methods.base import Method
from sentei.methods.units.channels import (
    channel_l1,
    channel_l2,
    channel_random,
    channel_taylor,
    channel_uniform,
)

__all__ = ["UNITS"]

UNITS: dict[str, Method] = {
    "channel-l1": channel_l1,
    "channel-l2": channel_l2,
    "channel-random": channel_random,
    "channel-taylor": channel_taylor,
    "channel-uniform": channel_uniform,
}
