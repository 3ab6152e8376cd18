"""`python -m zoo.record RUN.json ...`: one small record of runs of the zoo, to keep.

A network that occurs in several runs counts as it came out in the last.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "torchvision", "timm", "transformers", "torch-geometric", "diffusers",
    "segmentation-models-pytorch", "monai", "torchaudio", "open_clip_torch", "ultralytics",
)  # fmt: skip
HOME = Path(__file__).parent / "results.json"


def record(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by commit and by family, and who passed; of those who did not also why."""
    networks = {o["name"]: o for run in runs for o in run["networks"]}
    commits = {o["name"]: run.get("commit", "") for run in runs for o in run["networks"]}
    families: dict[str, Counter[str]] = {}
    for o in networks.values():
        families.setdefault(o["family"], Counter())[o["status"]] += 1
    total = Counter(o["status"] for o in networks.values())
    return {
        "networks by commit": dict(Counter(commits.values()).most_common()),
        "python": platform.python_version(),
        "versions": _versions(),
        "networks": len(networks),
        "share passed": round(total["pass"] / max(len(networks), 1), 4),
        "status": dict(sorted(total.items())),
        "families": {name: dict(sorted(c.items())) for name, c in sorted(families.items())},
        "passed": sorted(n for n, o in networks.items() if o["status"] == "pass"),
        "not passed": {
            n: {"status": o["status"], "why": o["detail"]}
            for n, o in sorted(networks.items())
            if o["status"] != "pass"
        },
        "float32": sorted(n for n, o in networks.items() if o["precision"] == "float32"),
    }


def _versions() -> dict[str, str]:
    """Of the libraries that are installed: networks of the others were skipped."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo.record", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="what `python -m zoo --json` wrote")
    parser.add_argument("--out", type=Path, default=HOME)
    options = parser.parse_args(argv)
    found = record([json.loads(path.read_text()) for path in options.runs])
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{options.out}: {found['networks']} networks, {found['share passed']:.1%} passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
