"""Data and networks to prune them with, as used by the examples, the CLI and the bench.

- `digits`: scikit-learn's 8×8 digits as tensors; the only data set that needs no download.
- `models`: small networks of each kind that train on it in seconds.
- `papers`: the CIFAR networks of the literature, whose counts papers print to the last digit.
"""

from sentei.tasks.digits import Task, digits

__all__ = ["Task", "digits"]
