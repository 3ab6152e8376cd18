"""Prune a small residual network to a quarter of its MACs, and see what that cost.

For three seeds: train on the digits, prune with Sentei, fine-tune, measure before and after, save
the artefact. Then a fresh Python process builds an unpruned network, loads each artefact into it
and checks that it computes the very same bits. Every number in the table is measured here.

    python examples/demo.py [--seeds 3] [--epochs 12] [--finetune-epochs 20] [--out runs/demo]
"""

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sentei
from sentei.recovery.finetune import evaluate, finetune, progress_bar
from sentei.tasks.digits import digits
from sentei.tasks.models import digits_resnet

# One recipe before and after pruning, only the number of epochs differs.
RECIPE = {"lr": 0.1, "batch_size": 128, "weight_decay": 5e-4}
BATCH = 256  # images a forward pass when timing
RUNS = 31  # timed passes of each network; odd, so that the median is one of them


@dataclass(frozen=True)
class Measured:
    """One network: accuracy in [0, 1], latency in seconds for `BATCH` images, file in bytes."""

    accuracy: float
    params: int
    macs: int
    latency: float
    bytes: int


def main(argv: list[str] | None = None) -> int:
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--seeds", type=int, default=3, help="how many networks to train and prune")
    ask.add_argument("--epochs", type=int, default=12, help="of training before pruning")
    ask.add_argument("--finetune-epochs", type=int, default=20, help="of training after pruning")
    ask.add_argument("--out", type=Path, default=Path("runs/demo"), help="where artefacts go")
    ask.add_argument("--check", type=Path, nargs="+", metavar="FOLDER", help=argparse.SUPPRESS)
    args = ask.parse_args(argv)
    torch.set_num_threads(1)  # the same bits on every run, and latencies that can be compared
    if args.check:
        return check(args.check)

    started = time.perf_counter()
    console = Console()
    console.print(
        f"Digits: 1,347 images to train on, 450 to test. Target: 25 % of the MACs, "
        f"{args.seeds} seed(s)."
    )
    folders, rows = [], []
    with progress_bar(console) as bar:
        for seed in range(args.seeds):
            folder = args.out / f"seed{seed}"
            rows.append(one_seed(seed, folder, args.epochs, args.finetune_epochs, bar))
            folders.append(folder)
    console.print(table(rows))

    drop = max(100 * (before.accuracy - after.accuracy) for before, after in rows)
    console.print(
        f"Largest loss of accuracy: {drop:.2f} points (one test image is 0.22)."
        if drop > 0
        else "No seed lost accuracy."
    )
    # A fresh process: nothing of what was trained or pruned here is in its memory.
    command = [sys.executable, __file__, "--check", *map(str, folders)]
    fresh = subprocess.run(command, capture_output=True, text=True, check=False)
    console.print(fresh.stdout.strip() or fresh.stderr.strip(), soft_wrap=True, highlight=False)
    console.print(f"{time.perf_counter() - started:.0f} seconds in all.")
    return fresh.returncode


def one_seed(seed: int, folder: Path, epochs: int, finetune_epochs: int, bar) -> tuple:
    """Train, prune, fine-tune, measure, save. Returns `(before, after)`."""
    task = digits()
    torch.manual_seed(seed)
    model = digits_resnet()
    finetune(model, task.train, epochs, seed=seed, progress=bar, **RECIPE)

    result = sentei.prune(
        model,
        task.example,
        target=sentei.Target(macs=0.25),
        criterion="l2",
        round_to=8,  # vector units work on 8 or 16 channels at once; 9 cost as much as 16
        inplace=False,  # the original is still wanted, to compare with
    )
    small = result.model
    finetune(small, task.train, finetune_epochs, seed=seed, progress=bar, **RECIPE)

    folder.mkdir(parents=True, exist_ok=True)
    sentei.save(result, folder)
    small.eval()
    with torch.inference_mode():
        save_file({"outputs": small(task.test[0])}, folder.with_suffix(".outputs.safetensors"))
    whole = folder.with_suffix(".unpruned.safetensors")
    save_file(model.state_dict(), whole)

    slow, fast = latency(model, small, task.train[0][:BATCH])
    before, after = result.before, result.after
    return (
        Measured(
            evaluate(model, task.test).accuracy,
            before.params,
            before.macs,
            slow,
            whole.stat().st_size,
        ),
        Measured(
            evaluate(small, task.test).accuracy,
            after.params,
            after.macs,
            fast,
            (folder / "model.safetensors").stat().st_size,
        ),
    )


def latency(one: nn.Module, other: nn.Module, x: Tensor) -> tuple[float, float]:
    """Median seconds of a forward pass of each, timed in turns so that both meet the same noise."""
    seconds: tuple[list[float], list[float]] = ([], [])
    models = (one.eval(), other.eval())
    with torch.inference_mode():
        for run in range(RUNS + 5):
            for model, times in zip(models, seconds, strict=True):
                start = time.perf_counter()
                model(x)
                if run >= 5:  # the first passes warm up caches and the allocator
                    times.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def table(rows: list[tuple[Measured, Measured]]) -> Table:
    """Before and after for each seed, and what is left on average."""
    out = Table(caption=f"latency: median of {RUNS}, {BATCH} images, one thread")
    for name in ("seed", "network", "accuracy", "parameters", "MACs", "latency", "file"):
        out.add_column(name, justify="left" if name in ("seed", "network") else "right")
    for seed, pair in enumerate(rows):
        for name, m in zip(("before", "after"), pair, strict=True):
            out.add_row(
                str(seed) if name == "before" else "",
                name,
                f"{m.accuracy:.2%}",
                f"{m.params:,}",
                f"{m.macs:,}",
                f"{m.latency * 1e3:.2f} ms",
                f"{m.bytes / 1024:,.0f} KiB",
                end_section=name == "after",
            )

    def left(value) -> str:
        return f"{statistics.mean(value(after) / value(before) for before, after in rows):.1%}"

    change = statistics.mean(100 * (after.accuracy - before.accuracy) for before, after in rows)
    out.add_row(
        "mean",
        "left",
        f"{change:+.2f} pt",
        left(lambda m: m.params),
        left(lambda m: m.macs),
        left(lambda m: m.latency),
        left(lambda m: m.bytes),
    )
    return out


def check(folders: list[Path]) -> int:
    """In a fresh process: load each artefact into a new network, compare its outputs bit by bit."""
    images = digits().test[0]
    for folder in folders:
        model = sentei.load(folder, model=digits_resnet()).eval()
        with torch.inference_mode():
            outputs = model(images)
        expected = load_file(folder.with_suffix(".outputs.safetensors"))["outputs"]
        if not torch.equal(outputs, expected):
            gap = (outputs - expected).abs().max().item()
            print(f"{folder}: loaded in a fresh process, outputs differ by up to {gap:.3g}")
            return 1
    print(
        f"Loaded {len(folders)} artefact(s) from {folders[0].parent} in a fresh Python process: "
        f"outputs on {len(images)} test images are bit-identical."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
