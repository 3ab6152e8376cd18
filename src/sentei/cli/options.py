"""The options of the commands: one for each field of `Config`, and the few that several share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from sentei.cli.config import Config, as_written, read_config

__all__ = [
    "BUDGET", "HOW", "OPTIONS", "RUN", "ConfigFile", "Json", "MaybeModel", "Trust", "config_from",
    "option", "takes",
]  # fmt: skip

WHAT, BUDGET, HOW, TRAINING, RUN = "What", "Budget", "How", "Training", "Run"


def option(*names: str, panel: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option whose default is left to `Config`; help says it."""
    words = help if default is None else f"{help} [dim]Default: {default}.[/dim]"
    flag = {} if "metavar" in more else {"metavar": " "}
    return typer.Option(
        *names, help=words, rich_help_panel=panel, show_default=False, **flag, **more
    )


Json = Annotated[bool, option("--json", panel=RUN, help="Print JSON instead of a table.")]
ConfigFile = Annotated[
    Path | None,
    option("--config", metavar="FILE", panel=RUN,
           help="A YAML file of options; those on the command line go before it."),
]  # fmt: skip
_MODEL = "What to prune; see `sentei --help` for the forms."
MaybeModel = Annotated[str | None, typer.Argument(metavar="MODEL", show_default=False, help=_MODEL)]
Trust = Annotated[
    bool | None,
    option("--trust", panel=WHAT,
           help="Run the Python file that a folder of an earlier run names as its builder."),
]  # fmt: skip

OPTIONS: dict[str, Any] = {
    # -- what ---------------------------------------------------------------------------------
    "model": MaybeModel,
    "model_options": Annotated[
        list[str] | None,
        option("--set", "-s", metavar="NAME=VALUE", panel=WHAT,
               help="An option of the model's builder, such as num_classes=10. Several times or "
               "with commas."),
    ],
    "weights": Annotated[
        str | None,
        option("--weights", metavar="FILE", panel=WHAT,
               help="Weights of the model: safetensors, or a torch state dict (no code in it is "
               "run)."),
    ],
    "input": Annotated[
        str | None,
        option("--input", metavar="SHAPE", panel=WHAT,
               help="Shape of an input where neither model nor data say, such as 1x3x32x32; of "
               "tokens, 1x16:int64."),
    ],
    "trust": Trust,
    "data": Annotated[
        str | None,
        option("--data", "-d", metavar="DATA", panel=WHAT,
               help="What to train and test on; see `sentei --help` for the forms."),
    ],
    "image_size": Annotated[
        int | None,
        option("--image-size", metavar="N", panel=WHAT,
               help="Images become N×N. Folders of images have the model's size by default."),
    ],
    "length": Annotated[
        int | None,
        option("--length", metavar="N", panel=WHAT, default="128",
               help="Tokens of a text example, at most."),
    ],
    # -- budget -------------------------------------------------------------------------------
    "target": Annotated[
        list[str] | None,
        option("--target", "-t", metavar="BUDGET", panel=BUDGET,
               help="Ceiling on macs, params, latency, memory, bytes, width or units: macs=50%, "
               "params=2M, latency=10ms, memory=1.5GiB. Several times or with commas; 50% alone "
               "is of the MACs."),
    ],
    "sparsity": Annotated[
        float | None,
        option("--sparsity", metavar="SHARE", panel=BUDGET,
               help="Share of single weights to set to zero, for methods that do that."),
    ],
    "protect": Annotated[
        list[str] | None,
        option("--protect", metavar="NAME", panel=BUDGET,
               help="A group or module that keeps everything, such as 'layer1.*'. Several times."),
    ],
    "round_to": Annotated[
        str | None,
        option("--round-to", metavar="N|auto", panel=BUDGET,
               help="Kept widths are multiples of N, where a group is so wide; auto: of what this "
               "machine is fast with, measured."),
    ],
    "min_fraction": Annotated[
        float | None,
        option("--min-fraction", metavar="SHARE", panel=BUDGET, default="0.05",
               help="Share of its units that every group keeps at least, over all rounds."),
    ],
    "uniform": Annotated[
        bool | None,
        option("--uniform", panel=BUDGET,
               help="All layers of a kind alike, so that a Hugging Face configuration can say so."),
    ],
    "granularity": Annotated[
        str | None,
        option("--granularity", metavar="WHICH", panel=BUDGET, default="auto",
               help="Of heads and their width, what shrinks: blocks, width, both or auto."),
    ],
    "depth": Annotated[
        bool | None,
        option("--depth", panel=BUDGET,
               help="Take out whole layers, too, where that keeps more than cutting widths "
               "(with the allocation fastest: where it saves more time)."),
    ],
    # -- how ----------------------------------------------------------------------------------
    "method": Annotated[
        str | None,
        option("--method", "-m", metavar="NAME", panel=HOW,
               help="A published method as it is in the paper: `sentei methods` lists them; or "
               "file.py:name, your own. "
               "Without one: criterion, allocation and rounds."),
    ],
    "method_options": Annotated[
        list[str] | None,
        option("--option", metavar="NAME=VALUE", panel=HOW, help="An option of the method."),
    ],
    "criterion": Annotated[
        str | None,
        option("--criterion", "-c", metavar="NAME", panel=HOW, default="l2",
               help="What a unit is worth: l1, l2, bn-scale, taylor, random, …"),
    ],
    "allocation": Annotated[
        str | None,
        option("--allocation", "-a", metavar="NAME", panel=HOW, default="global",
               help="How the budget is spread: global, local, uniform, isomorphic, knapsack, "
               "sensitivity, fastest."),
    ],
    "rounds": Annotated[
        int | None,
        option("--rounds", metavar="N", panel=HOW, default="1",
               help="Prune in so many steps, with training between them."),
    ],
    "calibration": Annotated[
        int | None,
        option("--calibration", metavar="N", panel=HOW, default="512",
               help="Training examples that criteria may look at."),
    ],
    "heal": Annotated[
        list[str] | None,
        option("--heal", metavar="NAME", panel=HOW,
               help="Repair right after pruning: compensate, merge, reconstruct, recalibrate; and "
               "soften, for classifiers that are trained next. Several with commas, in this "
               "order."),
    ],
    # -- training -----------------------------------------------------------------------------
    "epochs": Annotated[
        int | None,
        option("--epochs", metavar="N", panel=TRAINING, default="10",
               help="Of training after pruning."),
    ],
    "round_epochs": Annotated[
        int | None,
        option("--round-epochs", metavar="N", panel=TRAINING, default="1",
               help="Of training after each round but the last."),
    ],
    "lr": Annotated[
        float | None,
        option("--lr", metavar="RATE", panel=TRAINING, default="0.02",
               help="Learning rate after pruning."),
    ],
    "train_epochs": Annotated[
        int | None,
        option("--train-epochs", metavar="N", panel=TRAINING, default="0",
               help="Of training before pruning, for models without weights."),
    ],
    "train_lr": Annotated[
        float | None,
        option("--train-lr", metavar="RATE", panel=TRAINING, default="0.05",
               help="Learning rate before pruning."),
    ],
    "batch_size": Annotated[
        int | None,
        option("--batch-size", metavar="N", panel=TRAINING, default="64", help="Examples a step."),
    ],
    "optimizer": Annotated[
        str | None,
        option("--optimizer", metavar="NAME", panel=TRAINING, default="sgd",
               help="sgd, adam or adamw."),
    ],
    "weight_decay": Annotated[
        float | None,
        option("--weight-decay", metavar="RATE", panel=TRAINING, default="0", help="Decay."),
    ],
    "schedule": Annotated[
        str | None,
        option("--schedule", metavar="NAME", panel=TRAINING, default="cosine",
               help="Of the learning rate: cosine, linear, step or constant."),
    ],
    "distill": Annotated[
        bool | None,
        option("--distill", panel=TRAINING,
               help="Learn from the unpruned model too, by its logits."),
    ],
    "distill_temperature": Annotated[
        float | None,
        option("--distill-temperature", metavar="T", panel=TRAINING, default="4",
               help="By which logits are divided before they are compared."),
    ],
    "distill_weight": Annotated[
        float | None,
        option("--distill-weight", metavar="W", panel=TRAINING, default="1",
               help="Of the logits' term beside the loss; 0 leaves it out."),
    ],
    "distill_features": Annotated[
        list[str] | None,
        option("--distill-features", metavar="NAME", panel=TRAINING,
               help="A module whose outputs are to be the unpruned model's, too: of what is left "
               "of them. Several with commas."),
    ],
    "augment": Annotated[
        bool | None,
        option("--augment", panel=TRAINING, help="Random crops and flips of image folders."),
    ],
    "workers": Annotated[
        int | None,
        option("--workers", metavar="N", panel=TRAINING, default="0",
               help="Processes that read images."),
    ],
    "precision": Annotated[
        str | None,
        option("--precision", metavar="NAME", panel=TRAINING, default="no",
               help="Mixed precision of trainings: bf16, fp16 (on a GPU), or no."),
    ],
    "processes": Annotated[
        int | None,
        option("--processes", metavar="N", panel=TRAINING, default="1",
               help="Train in so many processes of this machine. Started by torchrun or "
               "accelerate launch: as many as those say."),
    ],
    "parallel": Annotated[
        str | None,
        option("--parallel", metavar="NAME", panel=TRAINING, default="ddp",
               help="Of several processes, each has the whole model (ddp) or a part (fsdp)."),
    ],
    "checkpoint": Annotated[
        float | None,
        option("--checkpoint", metavar="SECONDS", panel=TRAINING, default="10",
               help="Between two states of a training on disk: what a kill can cost."),
    ],
    # -- run ----------------------------------------------------------------------------------
    "seed": Annotated[
        int | None,
        option("--seed", metavar="N", panel=RUN, default="0", help="For everything that draws."),
    ],
    "device": Annotated[
        str | None,
        option("--device", metavar="NAME", panel=RUN, default="auto",
               help="cpu, cuda, cuda:1, …; auto is the GPU where there is one."),
    ],
    "threads": Annotated[
        int | None,
        option("--threads", metavar="N", panel=RUN,
               help="CPU threads. The same number gives the same bits."),
    ],
}  # fmt: skip
"""Field of `Config` -> its option."""


def takes(*fields: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these fields of `Config` as options; it gets what was given as `options`."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [
            p.replace(annotation=hints[name], kind=p.KEYWORD_ONLY)
            for name, p in inspect.signature(function).parameters.items()
            if name != "options"
        ]
        kind = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(name, kind, default=None, annotation=OPTIONS[name]) for name in fields
        ]

        def command(**given: Any) -> None:
            function({name: given.pop(name) for name in fields}, **given)

        command.__doc__ = function.__doc__
        # typer reads both.
        command.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*shared, *own)}
        return command

    return wrap


def config_from(file: Path | None = None, **given: Any) -> Config:
    """Options of a file, and over them those of the command line.

    Raises:
        PruneError: an unknown option in the file, or a value that does not fit.
    """
    values = read_config(file) if file is not None else {}
    for name, value in given.items():
        if value is None or value == []:
            continue
        given_before = values.get(name)
        values[name] = as_written(name, value)
        if name in ("model_options", "method_options") and isinstance(given_before, dict):
            values[name] = {**given_before, **values[name]}
    return Config.of(values)
