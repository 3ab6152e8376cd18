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
from sentei.cli.options import (
    BUDGET,
    HOW,
    OPTIONS,
    RUN,
    ConfigFile,
    Json,
    MaybeModel,
    Trust,
    config_from,
    option,
    takes,
)
from sentei.cli.team import end_with_launcher, follows, world
from sentei.graph.errors import PruneError, VerificationError
from sentei.recovery.train import TrainingError
from sentei.startup import INTERRUPTED, interruptible

__all__ = ["app", "main"]

FAILED, DIFFERENT, BUG = 1, 3, 70
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
            with interruptible(), warnings.catch_warnings(), _logs_restored():
                if not debug:
                    _hush()
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            if follows():
                raise typer.Exit(INTERRUPTED) from None
            _complain(str(stop) or "interrupted", "")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `sentei methods | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except _KNOWN as error:
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
    if follows() and not debug and (isinstance(error, _KNOWN) or _echo(error)):
        raise typer.Exit(code) from None  # the main process says it
    if _echo(error):
        words = "another process of this run has ended"
    if debug:
        traceback.print_exception(error)
    _complain(words)
    raise typer.Exit(code) from None


_KNOWN = (VerificationError, PruneError, TrainingError)


def _echo(error: BaseException) -> bool:
    """Whether all that failed here is that another process is gone."""
    lost = ("gloo/transport", "Connection closed by peer", "NCCL communicator was aborted")
    return world() > 1 and any(text in str(error) for text in lost)


def _complain(words: str, label: str = "error: ") -> None:
    if follows():
        label = f"{label}process {os.environ['RANK']}: "
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
    end_with_launcher()
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


def _command(name: str, panel: str) -> Any:
    """A command whose help is its docstring, wrapped anew."""

    def wrap(function: Any) -> Any:
        paragraphs = inspect.cleandoc(function.__doc__).split("\n\n")
        words = "\n\n".join(
            text if text.startswith(" ") else " ".join(text.split()) for text in paragraphs
        )
        return app.command(name, rich_help_panel=panel, help=words)(function)

    return wrap


def _json(content: Any) -> None:
    print(json.dumps(content, indent=1))


# -- commands -------------------------------------------------------------------------------------
@_command("prune", "Pruning")
@takes(*(field for field in OPTIONS if field != "model"))
def prune_command(
    options: dict[str, Any],
    context: typer.Context,
    model: MaybeModel = None,
    out: Annotated[
        Path | None,
        option("--out", "-o", metavar="DIR", panel=RUN, help="Where the run lives; needed."),
    ] = None,
    config: ConfigFile = None,
    resume: Annotated[
        bool,
        option("--resume", panel=RUN, help="Go on with the run in --out, after whatever end."),
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
    from sentei.cli.folder import Run, resuming
    from sentei.cli.pruning import Talking, prune
    from sentei.cli.team import follows, launch, world

    if out is None:
        raise PruneError("where to? Give --out, a new folder")
    options["model"] = model
    bare = config is None and not any(v is not None and v != [] for v in options.values())
    made = None if resume and bare else config_from(config, **options)
    there = made or Run.configuration(out)
    if there.processes > 1 and world() == 1:
        debug = bool(context.find_root().params.get("debug"))
        code = launch(made, out, there.processes, resume=resume, debug=debug)
        if code:
            raise typer.Exit(code)
        return
    screen = show.console()
    try:
        result = prune(made, out, resume=resume, report=Talking(screen))
    except KeyboardInterrupt:
        if (out / "journal.json").exists():
            raise KeyboardInterrupt(
                f"stopped; nothing is lost. Go on with: {resuming(out)}"
            ) from None
        raise
    if follows():
        return
    from sentei.cli.comparing import summary

    print()
    show.put(screen, summary(result))


@_command("plan", "Pruning")
@takes(
    "model",
    "model_options",
    "weights",
    "input",
    "trust",
    "data",
    "image_size",
    "length",
    "target",
    "protect",
    "round_to",
    "min_fraction",
    "uniform",
    "granularity",
    "depth",
    "criterion",
    "allocation",
    "calibration",
    "seed",
    "device",
    "threads",
)
def plan_command(options: dict[str, Any], config: ConfigFile = None, json_: Json = False) -> None:
    """What a target would do to a model, without doing it."""
    from sentei.cli.planning import plan, plan_json, plan_table

    asked = config_from(config, **options)
    result = plan(asked)
    if json_:
        _json(plan_json(result, asked.round_to))
    else:
        show.put(show.console(), plan_table(result, asked.round_to))


@_command("stream", "Pruning")
@takes(
    "model",
    "model_options",
    "weights",
    "target",
    "protect",
    "round_to",
    "min_fraction",
    "granularity",
    "criterion",
    "allocation",
    "seed",
)
def stream_command(
    options: dict[str, Any],
    out: Annotated[
        Path, option("--out", "-o", metavar="DIR", panel=RUN, help="Where the result goes.")
    ],
    free: Annotated[
        bool,
        option("--free", panel=BUDGET,
               help="Layers may differ; the result is for sentei.load, whatever the model."),
    ] = False,
    config: ConfigFile = None,
) -> None:  # fmt: skip
    """Prune a checkpoint that need not fit into memory, from disk to disk.

    The model is built without weights; scores are summed where the weights lie, and each tensor is
    read, cut and written, one after the other. No data, no training. Of a Hugging Face model comes
    a folder that from_pretrained reads; of others, with --weights, one for sentei.load.

      sentei stream hf:llama-70b --target params=70% --out llama-49b
    """  # fmt: skip
    from sentei.cli.streaming import stream, stream_table

    screen = show.console()
    made = config_from(config, **options)
    show.put(screen, stream_table(stream(made, out, free=free, screen=screen), made.round_to))


@_command("inspect", "Looking")
@takes(
    "model",
    "model_options",
    "weights",
    "input",
    "trust",
    "data",
    "image_size",
    "length",
    "protect",
    "device",
)
def inspect_command(
    options: dict[str, Any],
    levels: Annotated[
        int, option("--levels", metavar="N", panel=RUN, default="2",
                    help="Levels of modules to show.")
    ] = 2,
    config: ConfigFile = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """What can be pruned in a model, what is pinned and why, and where its cost sits."""
    from sentei.cli.inspecting import inspect

    found = inspect(config_from(config, **options), levels=levels)
    if json_:
        _json(found.to_json())
    else:
        show.put(show.console(), found)


@_command("sensitivity", "Looking")
@takes(
    "model",
    "model_options",
    "weights",
    "trust",
    "data",
    "image_size",
    "length",
    "protect",
    "granularity",
    "criterion",
    "seed",
    "device",
    "threads",
)
def sensitivity_command(
    options: dict[str, Any],
    out: Annotated[
        Path, option("--out", "-o", metavar="DIR", panel=RUN, default="sensitivity",
                     help="Where picture and figures go.")
    ] = Path("sensitivity"),
    ratios: Annotated[
        str | None,
        option("--ratios", metavar="LIST", panel=HOW, default="10,25,50,75,90",
               help="Percentages of a group to remove."),
    ] = None,
    examples: Annotated[
        int, option("--examples", metavar="N", panel=HOW, default="512",
                    help="Validation examples to judge by, at most.")
    ] = 512,
    config: ConfigFile = None,
) -> None:  # fmt: skip
    """How much each group can lose: accuracy against the share removed, with a picture.

    Each group is cut alone, by real surgery on a copy, without training; what falls least can go
    first.
    """
    from sentei.cli.sensing import sense, sensitivity_table

    found, picture = sense(config_from(config, **options), out, ratios=ratios, examples=examples)
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
        str, option("--to", metavar="FORMAT", panel=RUN, help="onnx, pt2 or hf.")
    ],
    out: Annotated[
        Path | None,
        option("--out", "-o", metavar="PATH", panel=RUN, help="Where to; beside the model by "
                "default."),
    ] = None,
    input: Annotated[
        str | None,
        option("--input", metavar="SHAPE", panel=RUN,
               help="Of an input, where the folder holds none: 1x3x32x32, or 1x16:int64."),
    ] = None,
    trust: Trust = None,
) -> None:  # fmt: skip
    """Write a pruned model as ONNX, for torch.export, or as a Hugging Face folder."""
    from sentei.cli.exporting import export

    place = export(folder, to, out, input=input, trust=bool(trust))
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
        option("--family", "-f", metavar="NAME", panel=RUN, help="Only of this family."),
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
        Path, option("--out", "-o", metavar="DIR", panel=RUN, help="Where results are kept.")
    ],
    on: Annotated[
        str,
        option("--on", metavar="PLACE", panel=RUN, default="here",
                help="here: in processes; ray: on a Ray cluster."),
    ] = "here",
    workers: Annotated[
        int, option("--workers", metavar="N", panel=RUN, default="1", help="Processes.")
    ] = 1,
    address: Annotated[
        str | None,
        option("--address", metavar="ADDRESS", panel=RUN,
                help="Of the Ray cluster; one is started here by default."),
    ] = None,
    retry: Annotated[
        bool, option("--retry", panel=RUN, help="Try again what failed before.")
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
        Path, option("--out", "-o", metavar="FILE", panel=RUN, help="The page to write.")
    ] = Path("map.html"),
    store: Annotated[
        Path | None,
        option("--store", metavar="DIR", panel=RUN, help="A bench whose curves are shown."),
    ] = None,
    claims: Annotated[
        Path | None,
        option("--claims", metavar="DIR", panel=RUN, help="Records of measured claims."),
    ] = None,
) -> None:
    """Draw all methods by year and family, as an interactive page."""
    from sentei.cli.benching import draw_map

    page = draw_map(out, store=store, claims=claims)
    show.console().print(f"page: {page}", soft_wrap=True)
