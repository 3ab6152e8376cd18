"""What holding masks adds to a training step: ratios of a masked step to a dense one.

Dense and masked steps of the same model take turns, and processor time is what counts (one
thread), so that a busy machine disturbs little; each turn gives one ratio of medians, and the table
shows the median (min to max) over turns.

    python -m benchmarks.mask_overhead [--models mlp resnet20] [--turns 9] [--out results.json]
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.allocation.weights import select
from sentei.hooks import Hook, Hooks, MaskHook
from sentei.structures import prunable
from sentei.tasks.papers import cifar_resnet

RESULTS = Path(__file__).parent / "results" / "mask_overhead.json"
LIMIT = 1.05
Batch = tuple[Tensor, Tensor]


def mlp() -> tuple[nn.Module, Batch]:
    """H0 of the cards: 64-300-100-10, batches of 64."""
    net = nn.Sequential(
        nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    return net, (torch.randn(64, 64), torch.randint(10, (64,)))


def wide() -> tuple[nn.Module, Batch]:
    """784-1024-1024-10, batches of 128: nothing but matrix products, the hardest case."""
    net = nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )
    return net, (torch.randn(128, 784), torch.randint(10, (128,)))


def resnet20() -> tuple[nn.Module, Batch]:
    """ResNet-20 for 32×32 images, batches of 32."""
    return cifar_resnet(20), (torch.randn(32, 3, 32, 32), torch.randint(10, (32,)))


def transformer() -> tuple[nn.Module, Batch]:
    """Two encoder layers of width 256, batches of 16 sequences of 64."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(256, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layers(x).mean(1))

    return Encoder(), (torch.randn(16, 64, 256), torch.randint(10, (16,)))


def tiny() -> tuple[nn.Module, Batch]:
    """For the test of this file."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (
        torch.randn(8, 4),
        torch.randint(2, (8,)),
    )


MODELS: dict[str, Callable[[], tuple[nn.Module, Batch]]] = {
    "mlp": mlp,
    "wide": wide,
    "resnet20": resnet20,
    "transformer": transformer,
    "tiny": tiny,
}


class Stepper:
    """One model in training: forward, backward, SGD with momentum, hook."""

    def __init__(self, model: nn.Module, batch: Batch, hooks: list[Hook]) -> None:
        self.model, (self.x, self.y) = model, batch
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        self.hook = Hooks(hooks)
        self.hook.start(model, self.optimizer, 0)

    def __call__(self) -> float:
        """Seconds of processor time of one step."""
        began = time.process_time()
        loss = F.cross_entropy(self.model(self.x), self.y)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.hook.penalty()).backward()
        if self.hook.before_step():
            self.optimizer.step()
        self.hook.after_step()
        return time.process_time() - began


def measure(name: str, turns: int, steps: int, density: float) -> dict[str, Any]:
    """The row of one model."""
    torch.manual_seed(0)
    model, batch = MODELS[name]()
    twin = copy.deepcopy(model)
    scores = {n: w.detach().abs() for n, w in prunable(twin).items()}
    dense = Stepper(model, batch, [])
    masked = Stepper(twin, batch, [MaskHook(select(scores, density))])
    for _ in range(3):  # warm caches and the allocator
        dense(), masked()
    # Short steps are measured more often: a turn takes at least a quarter of a second of each kind.
    steps = max(steps, round(0.25 / statistics.median(dense() for _ in range(5))))
    ratios, times = [], []
    for _ in range(turns):
        plain, held = [], []
        for _ in range(steps):  # step by step: whatever else runs hits both
            plain.append(dense())
            held.append(masked())
        ratios.append(statistics.median(held) / statistics.median(plain))
        times.append(statistics.median(plain))
    return {
        "model": name,
        "weights": sum(s.numel() for s in scores.values()),
        "density": density,
        "dense step in ms": 1e3 * statistics.median(times),
        "masked / dense": {
            "median": statistics.median(ratios), "min": min(ratios), "max": max(ratios),
        },
        "within 5 %": statistics.median(ratios) <= LIMIT,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="time masked against dense training steps")
    parser.add_argument("--models", nargs="*", default=list(MODELS)[:-1], choices=MODELS)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="of either kind a turn, at least")
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    print(f"{'model':<12} {'weights':>10} {'dense ms':>9}  masked / dense: median (min to max)")
    for name in options.models:
        row = measure(name, options.turns, options.steps, options.density)
        rows.append(row)
        r = row["masked / dense"]
        print(
            f"{name:<12} {row['weights']:>10,} {row['dense step in ms']:>9.2f}  "
            f"{r['median']:.3f} ({r['min']:.3f} to {r['max']:.3f})"
            f"{'' if row['within 5 %'] else '  MORE THAN 5 %'}",
            flush=True,
        )
    results = {
        "command": "python -m benchmarks.mask_overhead "
        f"--turns {options.turns} --steps {options.steps} --density {options.density:g}",
        "threads": 1,
        "device": "cpu",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    main()
