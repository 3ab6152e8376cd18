"""Byte-level language models on the sources of Python's standard library: real, no download."""

from __future__ import annotations

import sysconfig
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.tasks.base import Task

__all__ = ["CharGPT", "CharLSTM", "source_text", "text_from", "windows"]

# Pure Python modules that every version since 3.11 has; large and varied enough to learn from.
_FILES = ("argparse.py", "ast.py", "calendar.py", "codecs.py", "configparser.py", "difflib.py",
          "doctest.py", "inspect.py", "optparse.py", "pydoc.py", "shutil.py", "statistics.py",
          "subprocess.py", "tarfile.py", "textwrap.py", "threading.py", "typing.py", "uuid.py",
          "zipfile.py")  # fmt: skip


def windows(data: bytes, length: int) -> tuple[Tensor, Tensor]:
    """Text cut into windows: x is (N, length) bytes, y the same shifted by one.

    >>> x, y = windows(b"abcdef", 2)
    >>> x.tolist(), y.tolist()
    ([[97, 98], [99, 100]], [[98, 99], [100, 101]])
    """
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8).long()
    count = (len(flat) - 1) // length
    if count < 1:
        raise ValueError(f"{len(data)} bytes are too few for one window of {length} and its target")
    x = flat[: count * length].view(count, length)
    y = flat[1 : count * length + 1].view(count, length)
    return x.clone(), y.clone()


def text_from(
    name: str, train: bytes, test: bytes, *, length: int = 64, vocabulary: int = 256
) -> Task:
    """A byte-level language-modelling task from two texts.

    Networks take (N, length) token numbers and give logits (N, vocabulary, length);
    `Evaluation.accuracy` is the share of next bytes guessed right.
    """
    return Task(
        name=name,
        train=windows(train, length),
        test=windows(test, length),
        example=torch.zeros(1, length, dtype=torch.long),
        loss=F.cross_entropy,
        models={
            "gpt": partial(CharGPT, vocabulary, length),
            "lstm": partial(CharLSTM, vocabulary),
        },
        classes=vocabulary,
        metric="next byte",
    )


def source_text(length: int = 64, train: int = 120_000, test: int = 24_000) -> Task:
    """The standard library's sources, ASCII only; the last bytes of every file are the test set.

    The text depends on the Python version; its hash is in the task's name, so that results from
    different texts are never compared.
    """
    learn, judge, digest = _sources(train, test)
    return text_from(f"sources-{digest}", learn, judge, length=length, vocabulary=128)


@cache
def _sources(train: int, test: int) -> tuple[bytes, bytes, str]:
    import hashlib

    home = Path(sysconfig.get_paths()["stdlib"])
    texts = [
        bytes(b for b in (home / f).read_bytes() if b < 128) for f in _FILES if (home / f).is_file()
    ]
    if not texts:
        raise FileNotFoundError(f"no sources of the standard library in {home}")
    share = test / (train + test)
    learn = b"".join(t[: int(len(t) * (1 - share))] for t in texts)
    judge = b"".join(t[int(len(t) * (1 - share)) :] for t in texts)
    # Evenly from all files, not the first ones only.
    learn, judge = _thin(learn, train), _thin(judge, test)
    return learn, judge, hashlib.sha256(learn + judge).hexdigest()[:8]


def _thin(text: bytes, size: int, piece: int = 2_000) -> bytes:
    if len(text) <= size:
        return text
    pieces = [text[i : i + piece] for i in range(0, len(text) - piece + 1, piece)]
    wanted = max(1, size // piece)
    step = len(pieces) / wanted
    return b"".join(pieces[int(i * step)] for i in range(wanted))


class CharGPT(nn.Module):
    """A small pre-norm decoder with learned positions; (N, T) -> (N, V, T)."""

    def __init__(
        self,
        vocabulary: int = 128,
        length: int = 64,
        width: int = 64,
        heads: int = 4,
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(CausalBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


class CausalBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)

        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(h)), split(self.key(h)), split(self.value(h))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class CharLSTM(nn.Module):
    """Embedding, LSTM, linear head; (N, T) -> (N, V, T)."""

    def __init__(self, vocabulary: int = 128, width: int = 48, hidden: int = 128) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.tokens(tokens))
        return self.head(states).transpose(1, 2)
