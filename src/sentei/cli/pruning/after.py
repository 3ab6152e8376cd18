"""What comes last: the model is saved, loaded again, timed, and all is written down."""

from __future__ import annotations

import torch

import sentei
from sentei.allocation.stopwatch import WallClock
from sentei.cli import show
from sentei.cli.answers import answers
from sentei.cli.folder import ANSWERS, MODEL, Facts
from sentei.cli.pruning.figures import groups_of, keeps_zeros, result_of
from sentei.cli.pruning.work import Work
from sentei.graph.errors import PruneError
from sentei.report import describe, layer_seconds
from sentei.report import write as write_page
from sentei.storage.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["finish", "save", "take_time", "verify"]

_HARDLY = 0.95


def save(work: Work) -> None:
    """Write the model, and what it answers to the example."""
    folder = work.run.folder / MODEL

    def do() -> Facts:
        work.model.eval()
        source = work.opened.source.origin()
        sentei.save(work.model, folder, source=source, masks=work.masks or ())
        args, kwargs = work.opened.call()
        inputs = [list(args), dict(kwargs)]
        # What was saved is compared with this, today and by `sentei verify` later.
        save_checkpoint(
            work.run.folder / ANSWERS,
            {"inputs": inputs, "outputs": answers(work.model, inputs)},
        )
        return {"stored": (folder / "model.safetensors").stat().st_size}

    facts = work.run.once("save", do)
    work.report.line("save", f"{folder}, {show.amount('stored', facts['stored'])}")


def verify(work: Work) -> None:
    """Load what was saved into a fresh model, and ask it the same.

    Raises:
        PruneError: it answers otherwise.
    """
    folder = work.run.folder

    def do() -> Facts:
        again = work.load(folder / MODEL)
        stored = load_checkpoint(folder / ANSWERS)
        wanted, given = stored["outputs"], answers(again, stored["inputs"])
        equal = len(wanted) == len(given) and all(
            torch.equal(a, b) for a, b in zip(wanted, given, strict=True)
        )
        if not equal:
            raise PruneError(
                f"the model saved in {folder / MODEL} does not answer as it did before saving; "
                "please report this model"
            )
        return {"same": True}

    work.run.once("verify", do)
    work.report.line("verify", "loaded into a fresh model it answers the same, bit for bit")


def take_time(work: Work) -> None:
    """Time the unpruned and the saved model side by side, whole and layer by layer."""

    def do() -> Facts:
        small, whole = work.load(work.run.folder / MODEL), work.opened.before()
        call = work.opened.call()
        before, after = WallClock().models([whole, small], call)
        groups = sentei.analyze(whole, **work.opened.inputs(), protect=work.config.protect)
        widths = {n: w["after"] for n, w in groups_of(work.run).items() if n in groups}
        return {
            "before": before,
            "after": after,
            "threads": torch.get_num_threads(),
            "layers": layer_seconds([whole, small], call),
            "network": describe(groups, widths),
            "zeros": sentei.zeros_report(small).verdict if keeps_zeros(work.run) else None,
        }

    facts = work.run.once("time", do)
    text = f"{show.seconds(facts['before'])} → {show.seconds(facts['after'])} for one forward pass"
    if facts.get("zeros") is None:
        text += f", {facts['before'] / facts['after']:.2f} times as fast"
    else:
        text += "; zeros are computed like other numbers"
    work.report.line("time", text)
    shrunk = bool(groups_of(work.run)) and facts.get("zeros") is None
    if shrunk and facts["after"] > _HARDLY * facts["before"]:
        work.report.line(
            "", "hardly faster here, with one example: --target latency=50% plans by the clock "
            "of this machine"
        )  # fmt: skip


def finish(work: Work) -> Facts:
    """Write the result and its page, and clear the work away."""

    def do() -> Facts:
        result = result_of(work.run, work.opened)
        work.run.conclude(result)
        page = write_page(work.run.folder)
        work.run.finish()
        work.report.line("report", str(page))
        return result

    return work.team.lead(do)
