"""A folder is the old one or the new one: after kills, full disks, failures and races."""

import copy
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError
from sentei.storage import files

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses Linux signals and limits")

# A process that imports torch once, then forks one saver for each line it reads. A saver writes
# version after version; `plan` is JSON: what kills it.
SAVER = r"""
import json, os, resource, signal, sys, tempfile
import torch, sentei
from sentei.storage import files
from tests.storage.test_files import versioned

torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for version in range(7):  # what is slow the first time is over before anything is killed
    with tempfile.TemporaryDirectory() as home:
        sentei.save(versioned(version), home)
print("ready", flush=True)
for line in sys.stdin:
    plan = json.loads(line)
    child = os.fork()
    if child == 0:
        model = versioned(plan["version"])
        if "bytes" in plan:
            # The kernel kills who writes beyond the limit, in the middle of a file.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan["bytes"], plan["bytes"]))
        if not plan.get("exchange", True):
            files._exchange = lambda a, b: False
        if "event" in plan:
            # Just before the n-th thing done to the file system.
            left = [plan["event"]]
            def hook(name, args):
                if name in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open", "os.scandir"):
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
        sentei.save(model, plan["folder"])
        while plan.get("forever"):
            plan["version"] += 1
            sentei.save(versioned(plan["version"]), plan["folder"])
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)
"""


def build():
    return nn.Sequential(nn.Linear(60, 90), nn.ReLU(), nn.Linear(90, 70))


@functools.cache
def narrowed(removed):
    net = build()
    sentei.delete_units(net, "0", range(removed), torch.randn(2, 60), verify=False)
    return net


def versioned(version):
    """A pruned network whose every number is the version."""
    net = copy.deepcopy(narrowed(version % 7 + 1))
    for p in net.parameters():
        nn.init.constant_(p, version)
    return net


def version_of(folder):
    """The version of a complete artefact; fails where old and new are mixed."""
    net = sentei.load(folder, build())
    values = {v for p in net.parameters() for v in p.unique().tolist()}
    (version,) = values
    assert net[0].out_features == 90 - (int(version) % 7 + 1)
    return int(version)


def leftovers(home):
    return [n for n in os.listdir(home) if n.startswith(".")]


class Saver:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SAVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline().strip() == "ready"

    def start(self, **plan):
        self.process.stdin.write(json.dumps(plan, default=str) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def died_of(self):
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def saver():
    it = Saver()
    yield it
    it.process.stdin.close()
    it.process.stdout.close()
    it.process.wait(30)


@linux
def test_killed_at_random_moments(saver, tmp_path):
    folder = tmp_path / "small"
    sentei.save(versioned(0), folder)
    start = time.perf_counter()
    sentei.save(versioned(0), folder)
    usual = time.perf_counter() - start
    draw, last = random.Random(0), 0
    for turn in range(200):
        if turn >= 30 and last > 2:  # the kills met work
            break
        child = saver.start(folder=folder, version=last + 1, forever=True)
        time.sleep(draw.uniform(0, 4 * usual + turn / 100))  # longer, where the machine is busy
        os.kill(child, signal.SIGKILL)
        assert saver.died_of() == signal.SIGKILL
        found = version_of(folder)
        assert found >= last
        last = found
    assert last > 2
    sentei.save(versioned(3), folder)
    assert os.listdir(tmp_path) == ["small"]  # and what the dead left is cleared away


@linux
@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_killed_before_every_step(saver, tmp_path, there, exchange):
    folder, seen, step = tmp_path / "small", set(), 0
    while True:
        if there:
            sentei.save(versioned(1), folder)
        saver.start(folder=folder, version=2, event=step, exchange=exchange)
        killed = saver.died_of() == signal.SIGKILL
        if there or folder.exists():
            seen.add(version_of(folder))
        else:
            with pytest.raises(PruneError, match="there is no folder"):
                version_of(folder)
            seen.add(None)
        if not killed:
            break
        step += 1
        if not there and folder.exists():
            break
    assert step > 8
    assert seen == {1 if there else None, 2}
    sentei.save(versioned(4), folder)
    assert version_of(folder) == 4 and not leftovers(tmp_path)


@linux
def test_killed_in_the_middle_of_a_file(saver, tmp_path):
    folder = tmp_path / "small"
    sentei.save(versioned(1), folder)
    size = (folder / "model.safetensors").stat().st_size
    for most in (0, 1, 100, size // 3, size - 1):
        saver.start(folder=folder, version=8, bytes=most)
        assert saver.died_of() == signal.SIGXFSZ
        assert version_of(folder) == 1
        assert leftovers(tmp_path)
    sentei.save(versioned(2), folder)
    assert version_of(folder) == 2 and not leftovers(tmp_path)


def test_reading_needs_no_writing(tmp_path, monkeypatch):
    """What a kill between the two renames leaves is read where it lies, and finished by a save."""
    folder = sentei.save(versioned(2), tmp_path / "small")
    stage = tmp_path / ".small.saving-dead"
    (stage / "old0").mkdir(parents=True)
    folder.rename(stage / "new")
    monkeypatch.setattr(os, "rename", None)
    assert version_of(folder) == 2
    assert not folder.exists()
    monkeypatch.undo()
    sentei.save(versioned(3), folder)
    assert version_of(folder) == 3 and not leftovers(tmp_path)


def test_a_living_save_is_left_alone(tmp_path):
    stage, lock = files._stage(tmp_path / "small")
    (stage / "new").mkdir()
    sentei.save(versioned(1), tmp_path / "small")
    assert (stage / "new").is_dir()
    os.close(lock)
    sentei.save(versioned(2), tmp_path / "small")
    assert not stage.exists()


@linux
def test_two_that_save_to_one_place(saver, tmp_path):
    folder = tmp_path / "small"
    sentei.save(versioned(0), folder)
    child = saver.start(folder=folder, version=1, forever=True)
    for version in range(20):
        sentei.save(versioned(1000 + version), folder)
    os.kill(child, signal.SIGKILL)
    saver.died_of()
    sentei.save(versioned(5), folder)
    assert version_of(folder) == 5 and not leftovers(tmp_path)


@linux
@pytest.mark.parametrize("there", [False, True])
def test_file_size_limit(tmp_path, there):
    import resource

    folder = tmp_path / "small"
    if there:
        sentei.save(versioned(1), folder)
    model, before = versioned(2), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(PruneError, match=r"could not write .*small: .*File too large"):
            sentei.save(model, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not leftovers(tmp_path)
    assert version_of(folder) == 1 if there else not folder.exists()


@linux
def test_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("may not mount a small disk here")
    try:
        folder = sentei.save(versioned(1), disk / "small")
        with pytest.raises(PruneError, match=r"No space left on device.*untouched"):
            sentei.save(versioned(2), folder)
        assert version_of(folder) == 1 and not leftovers(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=20)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_rename_that_fails(tmp_path, monkeypatch, call, error):
    folder = sentei.save(versioned(1), tmp_path / "small")
    rename, calls = os.rename, []
    monkeypatch.setattr(files, "_exchange", lambda a, b: False)

    def failing(*args):
        calls.append(args)
        if len(calls) == call + 1:
            raise error
        rename(*args)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(PruneError if isinstance(error, OSError) else KeyboardInterrupt):
        sentei.save(versioned(2), folder)
    monkeypatch.undo()
    interrupted = isinstance(error, KeyboardInterrupt) and call == 1
    assert version_of(folder) == (2 if interrupted else 1)
    assert not leftovers(tmp_path)


def test_renames_that_all_fail_lose_nothing(tmp_path, monkeypatch):
    folder = sentei.save(versioned(1), tmp_path / "small")
    rename = os.rename
    monkeypatch.setattr(files, "_exchange", lambda a, b: False)

    def failing(source, to):
        if to == folder:
            raise OSError(5, "Input/output error")
        rename(source, to)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises((PruneError, OSError)):
        sentei.save(versioned(2), folder)
    monkeypatch.undo()
    assert version_of(folder) == 2 and leftovers(tmp_path)
    sentei.save(versioned(3), folder)
    assert version_of(folder) == 3 and not leftovers(tmp_path)


def test_folders_that_are_not_ours_stay(tmp_path):
    model = versioned(1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear")
    with pytest.raises(PruneError, match=r"holds other files \('diary.txt'\)"):
        sentei.save(model, tmp_path / "notes")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").write_text("precious")
    with pytest.raises(PruneError, match=r"holds other files \('model.safetensors'\)"):
        sentei.save(model, tmp_path / "checkpoint")
    with pytest.raises(PruneError, match="is a file; give a folder"):
        sentei.save(model, tmp_path / "notes" / "diary.txt")
    with pytest.raises(PruneError, match=r"cannot write beside .*(Not a directory|exists)"):
        sentei.save(model, tmp_path / "notes" / "diary.txt" / "small")
    with pytest.raises(PruneError, match="File name too long"):
        sentei.save(model, tmp_path / ("x" * 250))
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear"


def test_new_parents_empty_folders_and_links_to_folders(tmp_path):
    assert sentei.save(versioned(1), tmp_path / "a" / "b" / "small").is_dir()
    (tmp_path / "empty").mkdir()
    sentei.save(versioned(1), tmp_path / "empty")
    (tmp_path / "latest").symlink_to(tmp_path / "empty", target_is_directory=True)
    sentei.save(versioned(2), tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert version_of(tmp_path / "empty") == version_of(tmp_path / "latest") == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_files_are_as_readable_as_any(tmp_path):
    folder = sentei.save(versioned(1), tmp_path / "small")
    mask = os.umask(0)
    os.umask(mask)
    assert {f.stat().st_mode & 0o777 for f in folder.iterdir()} == {0o666 & ~mask}
    assert folder.stat().st_mode & 0o777 == 0o777 & ~mask


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PruneError, match="Permission denied"):
            sentei.save(versioned(1), tmp_path / "small")
    finally:
        tmp_path.chmod(0o700)
