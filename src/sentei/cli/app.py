"""The command line: options, help, and errors as one line."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

import sentei
from sentei.cli import show
from sentei.cli.config import Config, key_values, read_config, target_of
from sentei.graph.errors import PruneError, VerificationError
from sentei.recovery.train import TrainingError

__all__ = ["app", "main"]

FAILED, DIFFERENT, BUG, STOPPED = 1, 3, 70, 130
_EXIT_CODES = (
    "[bold]Exit codes[/bold]: 0 done, 1 it could not be done (one line says why), 2 the command "
    "line is wrong, 3 a verification found a difference, 130 stopped by Ctrl-C, 70 a mistake of "
    "Sentei's own."
)


class _Group(TyperGroup):
    """Errors become one line and an exit code; `--debug` shows where they came from."""

    def invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        try:
            with warnings.catch_warnings(), _logs_restored():
                if not debug:
                    _hush()
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _complain(str(stop) or "stopped", "")
            raise typer.Exit(STOPPED) from None
        except BrokenPipeError:  # `sentei methods | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (VerificationError, PruneError, TrainingError) as error:
            _fail(error, str(error), debug, DIFFERENT if _differs(error) else FAILED)
        except (torch.OutOfMemoryError, MemoryError) as error:
            _fail(error, "out of memory; try a smaller --batch-size", debug, FAILED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(error, f"{where}{error.strerror or error}", debug, FAILED)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if type(error).__module__.startswith(("typer.", "click.")):
                raise  # usage errors: typer prints them
            words = f"{type(error).__name__}: {error}"
            _fail(error, f"{words} (sentei --debug … shows where)", debug, BUG)


@contextlib.contextmanager
def _logs_restored() -> Any:
    level = logging.root.manager.disable
    try:
        yield
    finally:
        logging.disable(level)


def _hush() -> None:
    """Libraries' warnings, logs and bars are for those who debug."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")


def _differs(error: BaseException) -> bool:
    return isinstance(error, VerificationError)


def _fail(error: BaseException, words: str, debug: bool, code: int) -> None:
    if debug:
        traceback.print_exception(error)
    _complain(words)
    raise typer.Exit(code) from None


def _complain(words: str, label: str = "error: ") -> None:
    # Unwrapped: one line stays one line for whoever searches a log.
    text = " ".join(words.split())
    colour = sys.stderr.isatty()
    head = f"\x1b[31m{label}\x1b[0m" if colour and label else label
    print(f"{head}{text}", file=sys.stderr)


app = typer.Typer(
    cls=_Group,
    name="sentei",
    help="Prune PyTorch networks: smaller and faster, and provably the same where nothing was cut."
    "\n\n[bold]MODEL[/bold] is timm:NAME, torchvision:NAME, hf:FOLDER (a local Hugging Face "
    "folder), file.py:function, or the folder of an earlier run."
    "\n\n[bold]DATA[/bold] is digits (built in), a folder of images with a folder for each class, "
    "of CIFAR or MNIST as torchvision keeps them, of Hugging Face datasets, of text files, or "
    "file.py:function.",
    epilog=_EXIT_CODES,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": show.WIDTH},
)


def main() -> None:
    """What the command `sentei` runs."""

    def terminated(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminated)
    app(prog_name="sentei")


def _version(asked: bool) -> None:
    if asked:
        print(f"sentei {sentei.__version__}")
        raise typer.Exit(0)


@app.callback()
def _global(
    debug: Annotated[
        bool, typer.Option("--debug", metavar=" ", help="Show tracebacks and warnings.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar=" ", callback=_version, is_eager=True, help="Say the version."
        ),
    ] = False,
) -> None: ...


# -- options that several commands share ----------------------------------------------------------
_WHAT, _BUDGET, _HOW, _TRAINING, _RUN = (
    "What", "Budget", "How", "Training", "Run",
)  # fmt: skip


def _option(*names: str, panel: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option whose default is left to `Config`; help says it."""
    words = help if default is None else f"{help} [dim]Default: {default}.[/dim]"
    flag = {} if "metavar" in more else {"metavar": " "}
    return typer.Option(
        *names, help=words, rich_help_panel=panel, show_default=False, **flag, **more
    )


def _command(name: str, panel: str) -> Any:
    """A command whose help is its docstring, wrapped anew."""

    def wrap(function: Any) -> Any:
        paragraphs = inspect.cleandoc(function.__doc__).split("\n\n")
        words = "\n\n".join(
            text if text.startswith(" ") else " ".join(text.split()) for text in paragraphs
        )
        return app.command(name, rich_help_panel=panel, help=words)(function)

    return wrap


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="What to prune; see `sentei --help` for the forms.")
]
MaybeModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", show_default=False,
        help="What to prune; see `sentei --help` for the forms.",
    ),
]  # fmt: skip
Set = Annotated[
    list[str] | None,
    _option(
        "--set", "-s", metavar="NAME=VALUE", panel=_WHAT,
        help="An option of the model's builder, such as num_classes=10. Several times or with "
        "commas.",
    ),
]  # fmt: skip
Weights = Annotated[
    str | None,
    _option(
        "--weights", metavar="FILE", panel=_WHAT,
        help="Weights of the model: safetensors, or a torch state dict (no code in it is run).",
    ),
]  # fmt: skip
Input = Annotated[
    str | None,
    _option(
        "--input", metavar="SHAPE", panel=_WHAT,
        help="Shape of an input where neither model nor data say, such as 1x3x32x32.",
    ),
]  # fmt: skip
Trust = Annotated[
    bool | None,
    _option(
        "--trust", panel=_WHAT,
        help="Run the Python file that a folder of an earlier run names as its builder.",
    ),
]  # fmt: skip
Data = Annotated[
    str | None,
    _option("--data", "-d", metavar="DATA", panel=_WHAT,
            help="What to train and test on; see `sentei --help` for the forms."),
]  # fmt: skip
ImageSize = Annotated[
    int | None,
    _option("--image-size", metavar="N", panel=_WHAT,
            help="Images become N×N. Folders of images have the model's size by default."),
]  # fmt: skip
Length = Annotated[
    int | None,
    _option("--length", metavar="N", panel=_WHAT, default="128",
            help="Tokens of a text example, at most."),
]  # fmt: skip
Target = Annotated[
    list[str] | None,
    _option(
        "--target", "-t", metavar="BUDGET", panel=_BUDGET,
        help="Ceiling on macs, params, latency, memory, bytes, width or units: macs=50%, "
        "params=2M, latency=10ms, memory=1.5GiB. Several times or with commas; 50% alone is of "
        "the MACs.",
    ),
]  # fmt: skip
Protect = Annotated[
    list[str] | None,
    _option("--protect", metavar="NAME", panel=_BUDGET,
            help="A group or module that keeps everything, such as 'layer1.*'. Several times."),
]  # fmt: skip
RoundTo = Annotated[
    str | None,
    _option("--round-to", metavar="N|auto", panel=_BUDGET,
            help="Kept widths are multiples of N; auto: of what this machine is fast with, "
            "measured."),
]  # fmt: skip
MinFraction = Annotated[
    float | None,
    _option("--min-fraction", metavar="SHARE", panel=_BUDGET, default="0.05",
            help="Share of its units that every group keeps at least."),
]  # fmt: skip
Uniform = Annotated[
    bool | None,
    _option("--uniform", panel=_BUDGET,
            help="All layers of a kind alike, so that a Hugging Face configuration can say so."),
]  # fmt: skip
Granularity = Annotated[
    str | None,
    _option("--granularity", metavar="WHICH", panel=_BUDGET, default="auto",
            help="Of heads and their width, what shrinks: blocks, width, both or auto."),
]  # fmt: skip
Depth = Annotated[
    bool | None,
    _option("--depth", panel=_BUDGET,
            help="Take out whole layers, too, where that keeps more than cutting widths."),
]  # fmt: skip
Criterion = Annotated[
    str | None,
    _option("--criterion", "-c", metavar="NAME", panel=_HOW, default="l2",
            help="What a unit is worth: l1, l2, bn-scale, taylor, random, …"),
]  # fmt: skip
Allocation = Annotated[
    str | None,
    _option("--allocation", "-a", metavar="NAME", panel=_HOW, default="global",
            help="How the budget is spread: global, local, uniform, isomorphic, knapsack, "
            "sensitivity, fastest."),
]  # fmt: skip
Calibration = Annotated[
    int | None,
    _option("--calibration", metavar="N", panel=_HOW, default="512",
            help="Training examples that criteria may look at."),
]  # fmt: skip
Seed = Annotated[
    int | None,
    _option("--seed", metavar="N", panel=_RUN, default="0", help="For everything that draws."),
]  # fmt: skip
Device = Annotated[
    str | None,
    _option("--device", metavar="NAME", panel=_RUN, default="auto",
            help="cpu, cuda, cuda:1, …; auto is the GPU where there is one."),
]  # fmt: skip
Threads = Annotated[
    int | None,
    _option("--threads", metavar="N", panel=_RUN,
            help="CPU threads. The same number gives the same bits."),
]  # fmt: skip
Json = Annotated[
    bool, _option("--json", panel=_RUN, help="Print JSON instead of a table.")
]  # fmt: skip
ConfigFile = Annotated[
    Path | None,
    _option("--config", metavar="FILE", panel=_RUN,
            help="A YAML file of options; those on the command line go before it."),
]  # fmt: skip


def _config(file: Path | None = None, **given: Any) -> Config:
    """Options of a file, and over them those of the command line."""
    values = read_config(file) if file is not None else {}
    for name, value in given.items():
        if value is None or value == []:
            continue
        if name in ("model_options", "method_options"):
            what = "--set" if name == "model_options" else "--option"
            value = {**values.get(name, {}), **key_values(what, value)}
        elif name == "target":
            value = target_of(value)
        elif name == "heal":
            value = [part for text in value for part in text.split(",")]
        elif name == "round_to":
            value = int(value) if value.isdigit() else value
        values[name] = value
    return Config.of(values)


def _json(content: Any) -> None:
    print(json.dumps(content, indent=1))


# -- commands -------------------------------------------------------------------------------------
@_command("prune", "Pruning")
def prune_command(
    model: MaybeModel = None,
    out: Annotated[
        Path | None,
        _option("--out", "-o", metavar="DIR", panel=_RUN, help="Where the run lives; needed."),
    ] = None,
    data: Data = None,
    target: Target = None,
    sparsity: Annotated[
        float | None,
        _option(
            "--sparsity",
            metavar="SHARE",
            panel=_BUDGET,
            help="Share of single weights to set to zero, for methods that do that.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        _option(
            "--method",
            "-m",
            metavar="NAME",
            panel=_HOW,
            help="A published method as it is in the paper: `sentei methods` lists them. "
            "Without one: criterion, allocation and rounds.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        _option("--option", metavar="NAME=VALUE", panel=_HOW, help="An option of the method."),
    ] = None,
    criterion: Criterion = None,
    allocation: Allocation = None,
    rounds: Annotated[
        int | None,
        _option(
            "--rounds",
            metavar="N",
            panel=_HOW,
            default="1",
            help="Prune in so many steps, with training between them.",
        ),
    ] = None,
    calibration: Calibration = None,
    heal: Annotated[
        list[str] | None,
        _option(
            "--heal",
            metavar="NAME",
            panel=_HOW,
            help="Repair right after pruning: compensate, merge, reconstruct, recalibrate. "
            "Several with commas.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        _option(
            "--epochs",
            metavar="N",
            panel=_TRAINING,
            default="10",
            help="Of training after pruning.",
        ),
    ] = None,
    round_epochs: Annotated[
        int | None,
        _option(
            "--round-epochs",
            metavar="N",
            panel=_TRAINING,
            default="1",
            help="Of training after each round but the last.",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        _option(
            "--lr",
            metavar="RATE",
            panel=_TRAINING,
            default="0.02",
            help="Learning rate after pruning.",
        ),
    ] = None,
    train_epochs: Annotated[
        int | None,
        _option(
            "--train-epochs",
            metavar="N",
            panel=_TRAINING,
            default="0",
            help="Of training before pruning, for models without weights.",
        ),
    ] = None,
    train_lr: Annotated[
        float | None,
        _option(
            "--train-lr",
            metavar="RATE",
            panel=_TRAINING,
            default="0.05",
            help="Learning rate before pruning.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        _option(
            "--batch-size", metavar="N", panel=_TRAINING, default="64", help="Examples a step."
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        _option(
            "--optimizer",
            metavar="NAME",
            panel=_TRAINING,
            default="sgd",
            help="sgd, adam or adamw.",
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        _option("--weight-decay", metavar="RATE", panel=_TRAINING, default="0", help="Decay."),
    ] = None,
    schedule: Annotated[
        str | None,
        _option(
            "--schedule",
            metavar="NAME",
            panel=_TRAINING,
            default="cosine",
            help="Of the learning rate: cosine, linear, step or constant.",
        ),
    ] = None,
    distill: Annotated[
        bool | None,
        _option(
            "--distill", panel=_TRAINING, help="Learn from the unpruned model too, by its logits."
        ),
    ] = None,
    augment: Annotated[
        bool | None,
        _option("--augment", panel=_TRAINING, help="Random crops and flips of image folders."),
    ] = None,
    workers: Annotated[
        int | None,
        _option(
            "--workers",
            metavar="N",
            panel=_TRAINING,
            default="0",
            help="Processes that read images.",
        ),
    ] = None,
    set_: Set = None,
    weights: Weights = None,
    input_: Input = None,
    trust: Trust = None,
    image_size: ImageSize = None,
    length: Length = None,
    protect: Protect = None,
    round_to: RoundTo = None,
    min_fraction: MinFraction = None,
    uniform: Uniform = None,
    granularity: Granularity = None,
    depth: Depth = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    config: ConfigFile = None,
    resume: Annotated[
        bool,
        _option("--resume", panel=_RUN, help="Go on with the run in --out, after whatever end."),
    ] = False,
) -> None:
    """Prune a model: from the baseline to the saved, verified and timed small one.

    Traces the model, evaluates it, scores its units, allocates the budget, prunes, recovers by
    training, evaluates again, saves, verifies and times the result. Everything goes into --out: the
    model, all figures as JSON and HTML, and config.yaml, which repeats the run. After a kill at any
    moment, --resume goes on to the same result.

    Half the multiply-adds of a ResNet, trained on the built-in digits first:

      sentei prune timm:resnet18 --set in_chans=1,num_classes=10 --data digits
        --train-epochs 3 --target macs=50% --out runs/half
    """  # fmt: skip
    from sentei.cli.pruning import Talking, prune

    if out is None:
        raise PruneError("where to? Give --out, a new folder")
    given = {
        "model": model, "data": data, "target": target, "sparsity": sparsity, "method": method,
        "method_options": option, "criterion": criterion, "allocation": allocation,
        "rounds": rounds, "calibration": calibration, "heal": heal, "epochs": epochs,
        "round_epochs": round_epochs, "lr": lr, "train_epochs": train_epochs,
        "train_lr": train_lr, "batch_size": batch_size, "optimizer": optimizer,
        "weight_decay": weight_decay, "schedule": schedule, "distill": distill,
        "augment": augment, "workers": workers, "model_options": set_, "weights": weights,
        "input": input_, "trust": trust, "image_size": image_size, "length": length,
        "protect": protect, "round_to": round_to, "min_fraction": min_fraction,
        "uniform": uniform, "granularity": granularity, "depth": depth, "seed": seed,
        "device": device,
        "threads": threads,
    }  # fmt: skip
    bare = config is None and not any(v is not None and v != [] for v in given.values())
    made = None if resume and bare else _config(config, **given)
    screen = show.console()
    try:
        result = prune(made, out, resume=resume, report=Talking(screen))
    except KeyboardInterrupt:
        if (out / "journal.json").exists():
            raise KeyboardInterrupt(
                f"stopped; nothing is lost. Go on with: sentei prune --resume --out {out}"
            ) from None
        raise
    from sentei.cli.comparing import summary

    print()
    show.put(screen, summary(result))


@_command("plan", "Pruning")
def plan_command(
    model: Model,
    target: Target = None,
    data: Data = None,
    criterion: Criterion = None,
    allocation: Allocation = None,
    calibration: Calibration = None,
    protect: Protect = None,
    round_to: RoundTo = None,
    min_fraction: MinFraction = None,
    uniform: Uniform = None,
    granularity: Granularity = None,
    depth: Depth = None,
    set_: Set = None,
    weights: Weights = None,
    input_: Input = None,
    trust: Trust = None,
    image_size: ImageSize = None,
    length: Length = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """What a target would do to a model, without doing it."""
    from sentei.cli.planning import plan, plan_json, plan_table

    result = plan(
        _config(
            model=model, target=target, data=data, criterion=criterion, allocation=allocation,
            calibration=calibration, protect=protect, round_to=round_to,
            min_fraction=min_fraction, uniform=uniform, granularity=granularity, depth=depth,
            model_options=set_, weights=weights, input=input_, trust=trust,
            image_size=image_size, length=length, seed=seed, device=device, threads=threads,
        )
    )  # fmt: skip
    if json_:
        _json(plan_json(result))
    else:
        show.put(show.console(), plan_table(result))


@_command("inspect", "Looking")
def inspect_command(
    model: Model,
    data: Data = None,
    levels: Annotated[
        int, _option("--levels", metavar="N", panel=_RUN, default="2",
                     help="Levels of modules to show.")
    ] = 2,
    protect: Protect = None,
    set_: Set = None,
    weights: Weights = None,
    input_: Input = None,
    trust: Trust = None,
    image_size: ImageSize = None,
    length: Length = None,
    device: Device = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """What can be pruned in a model, what is pinned and why, and where its cost sits."""
    from sentei.cli.inspecting import inspect

    found = inspect(
        _config(
            model=model, data=data, protect=protect, model_options=set_, weights=weights,
            input=input_, trust=trust, image_size=image_size, length=length, device=device,
        ),
        levels=levels,
    )  # fmt: skip
    if json_:
        _json(found.to_json())
    else:
        show.put(show.console(), found)


@_command("sensitivity", "Looking")
def sensitivity_command(
    model: Model,
    data: Data = None,
    out: Annotated[
        Path, _option("--out", "-o", metavar="DIR", panel=_RUN, default="sensitivity",
                      help="Where picture and figures go.")
    ] = Path("sensitivity"),
    ratios: Annotated[
        str | None,
        _option("--ratios", metavar="LIST", panel=_HOW, default="10,25,50,75,90",
                help="Percentages of a group to remove."),
    ] = None,
    examples: Annotated[
        int, _option("--examples", metavar="N", panel=_HOW, default="512",
                     help="Validation examples to judge by, at most.")
    ] = 512,
    criterion: Criterion = None,
    protect: Protect = None,
    granularity: Granularity = None,
    set_: Set = None,
    weights: Weights = None,
    trust: Trust = None,
    image_size: ImageSize = None,
    length: Length = None,
    seed: Seed = None,
    device: Device = None,
    threads: Threads = None,
) -> None:  # fmt: skip
    """How much each group can lose: accuracy against the share removed, with a picture.

    Each group is cut alone, by real surgery on a copy, without training; what falls least can go
    first.
    """
    from sentei.cli.sensing import sense, sensitivity_table

    found, picture = sense(
        _config(
            model=model, data=data, criterion=criterion, protect=protect,
            granularity=granularity, model_options=set_, weights=weights, trust=trust,
            image_size=image_size, length=length, seed=seed, device=device, threads=threads,
        ),
        out,
        ratios=ratios,
        examples=examples,
    )  # fmt: skip
    screen = show.console()
    show.put(screen, sensitivity_table(found))
    screen.print(f"\npicture: {picture}\nfigures: {picture.with_suffix('.json')}", soft_wrap=True)


@_command("verify", "Results")
def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An output folder.")],
    trust: Trust = None,
) -> None:
    """Prove a result again: files intact, the cut exact, the model loads and answers the same."""
    from sentei.cli.verifying import verify

    screen = show.console()
    checks = verify(folder, trust=bool(trust))
    for check in checks:
        mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
        screen.print(f"{mark} {show.escape(check.what)}: {show.escape(check.found)}")
    if not all(check.passed for check in checks):
        raise typer.Exit(DIFFERENT)


@_command("report", "Results")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A finished run.")],
) -> None:
    """Show a finished run again, and write its page (report.html) anew."""
    from sentei.cli.comparing import report, summary

    result, page = report(folder)
    screen = show.console()
    show.put(screen, summary(result))
    screen.print(f"page: {page}", soft_wrap=True)


@_command("export", "Results")
def export_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An output folder.")],
    to: Annotated[
        str, _option("--to", metavar="FORMAT", panel=_RUN, help="onnx, pt2 or hf.")
    ],
    out: Annotated[
        Path | None,
        _option("--out", "-o", metavar="PATH", panel=_RUN, help="Where to; beside the model by "
                "default."),
    ] = None,
    trust: Trust = None,
) -> None:  # fmt: skip
    """Write a pruned model as ONNX, for torch.export, or as a Hugging Face folder."""
    from sentei.cli.exporting import export

    place = export(folder, to, out, trust=bool(trust))
    show.put(show.console(), show.escape(str(place)))


@_command("compare", "Results")
def compare_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Finished runs.")],
    json_: Json = False,
) -> None:
    """Several finished runs beside each other."""
    from sentei.cli.comparing import compare, comparison

    results = compare(folders)
    if json_:
        _json(results)
    else:
        show.put(show.console(), comparison(folders, results))


@_command("methods", "Looking")
def methods_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default=False, help="Tell all about this one."),
    ] = None,
    family: Annotated[
        str | None,
        _option("--family", "-f", metavar="NAME", panel=_RUN, help="Only of this family."),
    ] = None,
    json_: Json = False,
) -> None:
    """The published methods that `prune --method` knows."""
    from sentei.cli.listing import method_details, method_facts, methods, methods_table

    if name is not None:
        from sentei.methods import by_name

        found = by_name(name)
        if json_:
            _json(method_facts(found))
        else:
            show.put(show.console(), method_details(found))
        return
    listed = methods(family)
    if json_:
        _json([method_facts(m) for m in listed])
    else:
        show.put(show.console(), methods_table(listed))


@_command("doctor", "Looking")
def doctor_command(json_: Json = False) -> None:
    """What is installed here, what is missing and how to get it; devices, threads, cache."""
    from sentei.cli.doctor import doctor, doctor_table

    found = doctor()
    if json_:
        _json(found)
    else:
        show.put(show.console(), doctor_table(found))


@_command("bench", "Comparing")
def bench_command(
    config: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML file of tasks, methods, targets, seeds.")
    ],
    out: Annotated[
        Path, _option("--out", "-o", metavar="DIR", panel=_RUN, help="Where results are kept.")
    ],
    on: Annotated[
        str,
        _option("--on", metavar="PLACE", panel=_RUN, default="here",
                help="here: in processes; ray: on a Ray cluster."),
    ] = "here",
    workers: Annotated[
        int, _option("--workers", metavar="N", panel=_RUN, default="1", help="Processes.")
    ] = 1,
    address: Annotated[
        str | None,
        _option("--address", metavar="ADDRESS", panel=_RUN,
                help="Of the Ray cluster; one is started here by default."),
    ] = None,
    retry: Annotated[
        bool, _option("--retry", panel=_RUN, help="Try again what failed before.")
    ] = False,
) -> None:  # fmt: skip
    """Compare methods under one protocol: tasks × methods × targets × seeds.

    Every result is kept and none is computed twice: run it again to go on, or to add methods.
    """
    from sentei.cli.benching import bench

    screen = show.console()
    tally, files = bench(
        config, out, on=on, workers=workers, address=address, retry=retry, console=screen
    )
    screen.print(
        f"{tally.done} runs done, {tally.known} were there, {tally.failed} gave no result"
        + (f", {tally.elsewhere} are with another runner" if tally.elsewhere else "")
    )
    for file in files.values():
        screen.print(f"report: {file}", soft_wrap=True)


@_command("map", "Comparing")
def map_command(
    out: Annotated[
        Path, _option("--out", "-o", metavar="FILE", panel=_RUN, help="The page to write.")
    ] = Path("map.html"),
    store: Annotated[
        Path | None,
        _option("--store", metavar="DIR", panel=_RUN, help="A bench whose curves are shown."),
    ] = None,
    claims: Annotated[
        Path | None,
        _option("--claims", metavar="DIR", panel=_RUN, help="Records of measured claims."),
    ] = None,
) -> None:
    """Draw all methods by year and family, as an interactive page."""
    from sentei.cli.benching import draw_map

    page = draw_map(out, store=store, claims=claims)
    show.console().print(f"page: {page}", soft_wrap=True)
