"""The command line `sentei`: each command is a function here as well.

| command | function |
|---|---|
| `prune` | `sentei.cli.pruning.prune` |
| `plan` | `sentei.cli.planning.plan` |
| `inspect` | `sentei.cli.inspecting.inspect` |
| `sensitivity` | `sentei.cli.sensing.sense` |
| `verify` | `sentei.cli.verifying.verify` |
| `report`, `compare` | `sentei.cli.comparing.report`, `compare` |
| `export` | `sentei.cli.exporting.export` |
| `methods` | `sentei.cli.listing.methods` |
| `doctor` | `sentei.cli.doctor.doctor` |
"""

from sentei.cli.config import Config

__all__ = ["Config"]
