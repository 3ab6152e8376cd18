"""A tiny model and tiny data of a user, and the command line in this process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from sentei.cli.app import app

FILE = """
import torch
from torch import nn

def net(width=16):
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 8),
                         nn.ReLU(), nn.Linear(8, 3))

def drawn():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

def digits():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 3, stride=2),
        nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(3)
        )

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.Sequential(*(Layer(6 + 2 * i) for i in range(4)))

    def forward(self, x):
        return self.last(self.layers(self.first(x)))

class Layer(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(8), nn.Linear(8, wide), nn.Linear(wide, 8)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(self.norm(x))))

def encoder():
    torch.manual_seed(4)
    return Encoder()

def residual():
    torch.manual_seed(3)
    return Residual()

def data(n=90):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=draw)
    y = (x[:, :3] + x[:, 3:]).argmax(1)
    return {"train": (x[:60], y[:60]), "test": (x[60:], y[60:]), "classes": 3, "name": "toy"}

class Carries(nn.Module):
    # Its loss comes with its outputs, in a plain dict.

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, labels=None):
        logits = self.net(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

def carries():
    return Carries()

def named():
    x, y = data()["train"]
    return {"train": [{"x": x, "labels": y}], "test": [{"x": x, "labels": y}]}

def frozen():
    return net().requires_grad_(False)

def wide():
    return net().double()

def raises():
    raise RuntimeError("no luck today")

def prints():
    print("hello from the model file")
    return net()

def forks():
    import os
    os.fork()
    return net()

def leaves():
    raise SystemExit(0)
"""


def user_file(folder: Path) -> Path:
    path = folder / "mine.py"
    path.write_text(FILE)
    return path


def sentei(*args, code=0):
    """Run a command here; returns its output (stdout, then stderr)."""
    done = CliRunner().invoke(app, [str(a) for a in args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"exit {done.exit_code}\n{done.output}"
    return done.output


def error(*args, code=1):
    """The one line that a command fails with."""
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == code, f"exit {done.exit_code}\n{done.output}"
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.output
    return lines[0]


def process(*args, **options):
    """A command in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "sentei", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # What is started in the background by a shell ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def widest(text: str) -> int:
    return max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())
