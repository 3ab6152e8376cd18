"""`python -m tests.fuzz`: random networks, each pruned and compared with its silenced original.

The test suite draws a few; this draws as many as are asked for, from as many seeds, and shrinks
what fails to the simplest network that does.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sentei.graph.capture import tensors_in
from sentei.graph.errors import VerificationError
from sentei.graph.groups import Groups, analyze
from sentei.graph.surgery import Mismatch, remove
from tests.random_networks import networks


def share(groups: Groups, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random units of every group, a random share of each: equal ones where widths are tied."""
    keep: dict[str, torch.Tensor] = {}
    for members in groups.classes():
        most = members[0].size // members[0].step
        shares = int(torch.randint(1, most + 1, (), generator=generator))
        for g in members:
            rows = groups[g.outer].size if g.outer else 1
            order = torch.rand(rows, g.size, generator=generator).argsort(dim=1)
            kept = order[:, : shares * g.step].sort(dim=1).values
            keep[g.name] = kept if g.outer else kept[0]
    return keep


def outcome(model: torch.nn.Module, inputs: tuple, number: int) -> str:
    """How pruning the network went: "exact", "inconclusive" or "nothing to prune".

    Raises:
        VerificationError, or whatever else a network should not meet.
    """
    model = model.double()
    args = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    groups = analyze(model, args=args, train=bool(number % 2))
    generator = torch.Generator().manual_seed(number)
    for _ in range(8):
        if not len(groups):
            return "nothing to prune"
        try:
            surgery = remove(model, groups, share(groups, generator), (args, {}))
        except Mismatch as error:
            if isinstance(error, VerificationError):
                raise
            groups = groups.without(error.dims, str(error))
            continue
        report = surgery.verification
        assert report is not None and report.passed, str(report)
        outputs = [t for _, t in tensors_in(model(*args)) if t.requires_grad]
        torch.stack([t.sum() for t in outputs]).sum().backward()
        return "exact" if report.conclusive else "inconclusive"
    return "nothing to prune"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--draws", type=int, default=500, help="networks for each seed")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    failed = 0
    for number in range(options.first, options.first + options.seeds):
        counts: Counter[str] = Counter()
        start = time.perf_counter()
        try:
            drawing(number, options.draws, counts)()
        except Exception as error:
            failed += 1
            print(f"seed {number}: {type(error).__name__}: {error}")
            print("\n".join(getattr(error, "__notes__", [])), flush=True)
        seconds = time.perf_counter() - start
        told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
        print(f"seed {number}: {told} in {seconds:.0f} s", flush=True)
    return int(failed > 0)


def drawing(number: int, draws: int, counts: Counter[str]) -> Callable[[], None]:
    """A hypothesis test of so many networks, from this seed."""

    @seed(number)
    @settings(
        max_examples=draws,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(networks(max_blocks=7), st.integers(0, 10**6))
    def draw(drawn: tuple, n: int) -> None:
        model, inputs = drawn
        try:
            counts[outcome(model, inputs, n)] += 1
        except Exception as error:
            error.add_note(f"{model!r}, number {n}")
            raise

    return draw


if __name__ == "__main__":
    raise SystemExit(main())
