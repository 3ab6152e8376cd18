"""Runs that are killed, at every write and for real, and come out the same."""

import errno
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from sentei.cli.folder import Run
from sentei.cli.pruning import after
from sentei.storage import atomic, files
from tests.cli.helpers import error, process, sentei, user_file


class Killed(BaseException):
    pass


def options(home, out):
    return (
        "prune", f"{home}/mine.py:drawn", "-d", f"{home}/mine.py:data", "-o", out, "-t", "40%",
        "--rounds", "2", "--train-epochs", "2", "--epochs", "3", "--batch-size", "30",
        "--checkpoint", "0",
    )  # fmt: skip


def method_options(home, out):
    return (
        "prune", f"{home}/mine.py:drawn", "-d", f"{home}/mine.py:data", "-o", out, "-m",
        "lth-imp", "--sparsity", "0.6", "--train-epochs", "2", "--epochs", "2", "--checkpoint", "0",
    )  # fmt: skip


def own_loop(home, out):
    """A method that trains in a loop of its own before its setting does."""
    given = ["ntt" if a == "lth-imp" else a for a in method_options(home, out)]
    return [*given, "--option", "steps=20"]


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("asked, step", [(options, 1), (method_options, 3), (own_loop, 3)])
def test_killed_at_every_write(tmp_path, monkeypatch, asked, step):
    user_file(tmp_path)
    # No time spent on timing.
    monkeypatch.setattr(
        after, "WallClock", lambda: type("", (), {"models": lambda *a: [1.0, 1.0]})()
    )
    count, limit = 0, None
    replace, rename = os.replace, os.rename

    def counted(do):
        def move(a, b):
            nonlocal count
            count += 1
            if limit is not None and count > limit:
                raise Killed  # the file is written and not yet in its place
            do(a, b)

        return move

    monkeypatch.setattr(atomic.os, "replace", counted(replace))
    monkeypatch.setattr(files.os, "rename", counted(rename))
    sentei(*asked(tmp_path, tmp_path / "whole"))
    wanted, writes = weights(tmp_path / "whole"), count
    assert writes > 15  # after every step, too
    for n in range(0, writes, step):
        out = tmp_path / f"killed{n}"
        count, limit = 0, n
        with pytest.raises(Killed):
            sentei(*asked(tmp_path, out))
        limit = None
        # With the options, for the run may have been killed before it wrote them down.
        sentei(*asked(tmp_path, out), "--resume")
        assert same(weights(out), wanted), f"killed at write {n} of {writes}"
        assert (out / "report.html").is_file() and not (out / "work").exists(), n


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path, monkeypatch):
    file = user_file(tmp_path)
    out, sync, writes = tmp_path / "run", atomic._sync, 0

    def full(path):
        nonlocal writes
        writes += 1
        if writes > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full)
    assert "No space left on device" in error(*options(tmp_path, out))
    monkeypatch.setattr(atomic, "_sync", sync)
    stages = (out / "journal.json").read_text()
    assert '"start"' in stages
    code = file.read_text()
    file.write_text(code + "# edited\n")
    assert "the model is not what it was" in error("prune", "--resume", "-o", out)
    file.write_text(code.replace("x[:60], y[:60]", "x[:50], y[:50]"))
    assert "is not what it was" in error("prune", "--resume", "-o", out)
    file.write_text(code)
    sentei("prune", "--resume", "-o", out)
    sentei(*options(tmp_path, tmp_path / "whole"))
    assert same(weights(out), weights(tmp_path / "whole"))


def test_killed_for_real(tmp_path):
    user_file(tmp_path)
    out = tmp_path / "run"
    sentei(*options(tmp_path, tmp_path / "whole"))
    for stage in ("start", "baseline", "recover-1"):
        child = process(*options(tmp_path, out), "--resume")
        journal, began = out / "journal.json", time.monotonic()
        while child.poll() is None and time.monotonic() - began < 60:
            if journal.exists() and f'"{stage}"' in journal.read_text():
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    done = process(*options(tmp_path, out), "--resume")
    text, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    assert "bit for bit" in text
    assert same(weights(out), weights(tmp_path / "whole"))


def test_ctrl_c_says_how_to_go_on(tmp_path):
    user_file(tmp_path)
    out = tmp_path / "run"
    long = [a if a != "3" else "100000" for a in options(tmp_path, out)]
    child = process(*long)
    began = time.monotonic()
    while time.monotonic() - began < 60:
        if (out / "journal.json").exists() and "start" in (out / "journal.json").read_text():
            break
        time.sleep(0.01)
    # While it works, nobody else may.
    assert "another process is working" in error("prune", "--resume", "-o", out)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors.strip().splitlines() == [
        f"stopped; nothing is lost. Go on with: sentei prune --resume --out {out}"
    ]
    with Run.resume(out) as run:
        assert "start" in run and "final" not in run
    assert f"go on with: sentei prune --resume --out {out}" in error("report", out)
