"""An exported file or folder is the old one or the new one: kills, full disks, two writers."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

import sentei
from sentei import PruneError
from sentei.storage.atomic import replace_file, write_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses Linux signals and limits")

KINDS = ["onnx", "pt2", "hf"]
X = torch.ones(2, 3)


@functools.cache
def versioned(to, version):
    if to == "hf":
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=1, **sizes))
    else:
        model = nn.Linear(3, 4)
    for p in model.parameters():
        nn.init.constant_(p, version)
    return model


def export(to, version, path):
    example = None if to == "hf" else X
    return sentei.export(versioned(to, version), to, path, example_inputs=example, dynamic=False)


def version_of(to, path):
    """The version of a complete export; fails where old and new are mixed, or half is there."""
    if to == "hf":
        from transformers import LlamaForCausalLM

        model = LlamaForCausalLM.from_pretrained(path)
        (version,) = {v for p in model.parameters() for v in p.unique().tolist()}
        return int(version)
    if to == "pt2":
        got = torch.export.load(path).module()(X)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: X.numpy()})[0])
    (value,) = got.unique().tolist()
    return int(value) // 4


# Imports and converts everything once; then forks an exporter for each line it reads, which is
# killed just before the n-th thing it does to the file system at its target.
LOOP = r"""
import functools, json, os, resource, signal, sys
import torch
from sentei.export import onnx, pt2
from tests.export.test_faults import X, export, two_writers, versioned

torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
home = sys.argv[1]
# Conversion is the same each time, and slow: do it before anything is killed.
for name in ("program", "_convert"):
    for module in (onnx, pt2):
        if hasattr(module, name):
            known, real = {}, getattr(module, name)
            def once(what, *args, known=known, real=real, **kwargs):
                key = id(what)
                if key not in known:
                    known[key] = real(what, *args, **kwargs)
                return known[key]
            setattr(module, name, once)
for to in ("onnx", "pt2", "hf"):
    for version in (1, 2):
        export(to, version, f"{home}/warm-{to}")
print("ready", flush=True)
for line in sys.stdin:
    plan = json.loads(line)
    child = os.fork()
    if child == 0:
        if "writers" in plan:
            os._exit(two_writers(plan["path"]))
        if "bytes" in plan:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (plan["bytes"], plan["bytes"]))
        left = [plan.get("event", 10**9)]
        def hook(name, args):
            if name.startswith(("os.", "open", "shutil.")) and args and home in str(args[0]):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        export(plan["to"], plan["version"], plan["path"])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory):
    home = tmp_path_factory.mktemp("exports")
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "ready"

    def run(**plan):
        process.stdin.write(json.dumps(plan, default=str) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield home, run
    process.stdin.close()
    process.stdout.close()
    process.wait(30)


@linux
@pytest.mark.parametrize("to", KINDS)
def test_killed_before_every_step(exporter, to):
    home, run = exporter
    path, first, seen, step = home / f"model-{to}", home / f"first-{to}", set(), 0
    export(to, 1, first)
    while True:
        if path.is_dir():
            shutil.rmtree(path)
        (shutil.copyfile if first.is_file() else shutil.copytree)(first, path)
        if run(to=to, path=path, version=2, event=step) != signal.SIGKILL:
            break
        seen.add(version_of(to, path))
        step += 1
    assert step > 5
    assert seen == {1, 2} and version_of(to, path) == 2
    assert not [n for n in os.listdir(home) if n.startswith(".")]  # what the dead left is gone


@linux
@pytest.mark.parametrize("to", KINDS)
def test_killed_in_the_middle_of_a_file(exporter, to):
    home, run = exporter
    path = home / f"model-{to}"
    export(to, 1, path)
    size = path.stat().st_size if path.is_file() else (path / "model.safetensors").stat().st_size
    for most in (1, size // 2, size - 1):
        assert run(to=to, path=path, version=2, bytes=most) == signal.SIGXFSZ
        assert version_of(to, path) == 1
    export(to, 2, path)
    assert version_of(to, path) == 2
    assert not [n for n in os.listdir(home) if n.startswith(".")]


@linux
@pytest.mark.parametrize("to", KINDS)
def test_a_disk_that_is_full(to, tmp_path):
    import resource

    path = tmp_path / "model"
    export(to, 1, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(PruneError, match=r"could not write .*model: .*untouched"):
            export(to, 2, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == ["model"]
    assert version_of(to, path) == 1


def two_writers(path):
    """Two processes write one file, a third reads; 0 if all went well. Called in a fork."""
    children = []
    for letter in "ab":
        children.append(os.fork())
        if children[-1] == 0:
            for _ in range(60):
                write_file(path, letter * 20_000)
            os._exit(0)
    ends = []
    while len(ends) < 2:
        with open(path) as file:
            if file.read() not in ("a" * 20_000, "b" * 20_000):
                return 3
        ended, status = os.waitpid(-1, os.WNOHANG)
        ends += [status] if ended else []
    return int(any(ends))


@linux
def test_two_that_write_one_file(exporter, tmp_path):
    """Neither disturbs the other; the file is whole at any time, and nothing is left beside it."""
    _, run = exporter
    path = write_file(tmp_path / "cache.bin", "a" * 20_000)
    assert run(writers=2, path=path) == 0
    assert os.listdir(tmp_path) == ["cache.bin"]


def test_a_save_clears_what_a_dead_export_left(tmp_path):
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    folder = sentei.save(net, tmp_path / "small")
    (folder / ".model.onnx.saving-dead").mkdir()
    sentei.save(net, folder)
    assert sorted(os.listdir(folder)) == ["model.safetensors", "sentei.json"]


def test_errors_of_the_writer_pass_and_leave_nothing(tmp_path):
    def failing(new):
        new.write_text("half")
        raise ZeroDivisionError

    write_file(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError):
        replace_file(tmp_path / "a.txt", failing)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("to", ["file", "folder"])
def test_a_disk_that_tells_only_when_it_is_synced(to, tmp_path, monkeypatch):
    """Some file systems take every byte and find out later that there is no room."""
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    write_file(tmp_path / "file", "old")
    folder = sentei.save(net, tmp_path / "folder")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PruneError, match=rf"could not write .*{to}: No space left.*untouched"):
        write_file(tmp_path / "file", "new") if to == "file" else sentei.save(net, folder)
    assert (tmp_path / "file").read_text() == "old"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
