"""Checkpoints of the zoo's Hugging Face networks, pruned on disk and in memory: the same?

    python -m zoo.stream [--match 'hf/*'] [--family transformers-text-decoder] [--share 0.9]

Each network is saved by transformers, pruned by `prune_checkpoint`, and read by `from_pretrained`;
beside that it is read, pruned by `prune(uniform=True)`, and every tensor compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch

import sentei
from sentei import PruneError
from zoo.registry import Entry, load


def check(entry: Entry, share: float) -> tuple[str, str]:
    """("same" | "different" | "refused" | "refused on disk only" | …, why)."""
    made = entry.build()
    model, target = made.model.float(), sentei.Target(params=share)
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as home:
        model.save_pretrained(Path(home, "whole"))
        example = tuple(made.args) or made.kwargs
        try:
            done = sentei.prune_checkpoint(
                f"hf:{home}/whole", Path(home, "small"), target=target, example_inputs=example
            )
            read, info = type(model).from_pretrained(done.folder, output_loading_info=True)
        except PruneError as error:
            refused["on disk"] = str(error)
        whole = type(model).from_pretrained(Path(home, "whole")).eval()
        try:
            sentei.prune(whole, args=made.args, kwargs=made.kwargs, target=target, uniform=True)
        except PruneError as error:
            refused["in memory"] = str(error)
    if len(refused) == 2:
        return "refused", refused["in memory"]
    if refused:
        ((where, why),) = refused.items()
        return f"refused {where} only", why
    odd = {key: found for key, found in info.items() if found}
    ours, theirs = read.state_dict(), whole.state_dict()
    if odd or ours.keys() != theirs.keys():
        return "different", f"other tensors: {odd}"
    wrong = [n for n in ours if not torch.equal(ours[n], theirs[n])]
    return ("different", ", ".join(wrong[:3])) if wrong else ("same", "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo.stream", description=__doc__)
    parser.add_argument("--match", default="hf/*")
    parser.add_argument("--family", default="*")
    parser.add_argument("--share", type=float, default=0.9)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for entry in load(options.match, options.family):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                outcome, why = check(entry, options.share)
        except Exception as error:
            outcome, why = "crash", f"{type(error).__name__}: {error}"
        counts[outcome] += 1
        if outcome != "same":
            print(f"{entry.name}: {outcome}: {why[:160]}", flush=True)
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()))
    return int(counts["different"] + counts["crash"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
