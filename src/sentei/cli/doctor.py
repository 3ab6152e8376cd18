"""`sentei doctor`: what is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from typing import Any

import torch
from rich.console import Group as Lines

import sentei
from sentei.allocation.table import cache_folder, machine
from sentei.cli import show

__all__ = ["doctor", "doctor_table"]

_CORE = ("torch", "numpy", "safetensors", "pydantic", "rich", "typer", "pyyaml")
_PURPOSES = {
    "train": "training on several devices",
    "vision": "timm and torchvision models, images",
    "text": "Hugging Face models, text",
    "geometric": "graph networks",
    "data": "the digits",
    "export": "ONNX files",
    "quantize": "quantisation, LoRA",
    "partition": "the method regroup",
    "bench": "sweeps and reports",
}


def doctor() -> dict[str, Any]:
    """Versions, extras, devices, threads and the cache of this machine, as plain JSON.

    >>> sorted(doctor())[:3]
    ['advice', 'cache', 'core']
    """
    cpu = torch.device("cpu")
    cache = cache_folder()
    found = {
        "sentei": sentei.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "core": {name: _version(name) for name in _CORE},
        "extras": {name: _extra(name) for name in _PURPOSES},
        "devices": [{"name": "cpu", "what": machine(cpu)["processor"]}, *_accelerators()],
        "threads": {"torch": torch.get_num_threads(), "cores": os.cpu_count()},
        "cache": {"folder": str(cache), "writable": _writable(cache), "bytes": _bytes(cache)},
        "disk_free": shutil.disk_usage(os.getcwd()).free,
    }
    return found | {"advice": list(_advice(found))}


def _extra(name: str) -> dict[str, str | None]:
    """package -> version, None where it is missing; from the package's own metadata."""
    try:
        wanted = importlib.metadata.requires("sentei") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    packages = [
        match[1]
        for text in wanted
        if re.search(rf"""extra\s*==\s*['"]{name}['"]""", text)
        and (match := re.match(r"([A-Za-z0-9_.-]+)", text))
    ]
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _accelerators() -> list[dict[str, str]]:
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        memory = torch.cuda.get_device_properties(i).total_memory
        what = f"{torch.cuda.get_device_name(i)}, {show.amount('memory', memory)}"
        found.append({"name": f"cuda:{i}", "what": what})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "what": "Apple GPU"})
    return found


def _writable(folder: Any) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _bytes(folder: Any) -> int:
    try:
        return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    except OSError:
        return 0


def _advice(found: dict[str, Any]) -> Any:
    short = [n for n, packages in found["extras"].items() if None in packages.values()]
    if short:
        yield f"missing extras: pip install 'sentei[{','.join(short)}]'"
    cores, threads = found["threads"]["cores"] or 1, found["threads"]["torch"]
    if threads > cores:
        yield f"PyTorch uses {threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}"
    if not found["cache"]["writable"]:
        yield (
            f"{found['cache']['folder']} cannot be written, so measured times are lost: set "
            "SENTEI_CACHE to a folder that can"
        )
    if found["disk_free"] < 1 << 30:
        yield f"only {show.amount('bytes', found['disk_free'])} are free on this disk"


def doctor_table(found: dict[str, Any]) -> Any:
    """The same for people."""
    core = ", ".join(f"{n} {v or 'MISSING'}" for n, v in found["core"].items())
    threads = found["threads"]
    cache = found["cache"]
    rows = [
        ("sentei", f"{found['sentei']}, Python {found['python']}, {found['system']}"),
        ("core", core),
        *(("device", f"{d['name']}: {d['what']}") for d in found["devices"]),
        ("threads", f"{threads['torch']} of PyTorch, {threads['cores']} cores"),
        (
            "cache",
            f"{cache['folder']}, {show.amount('bytes', cache['bytes'])}"
            + ("" if cache["writable"] else ", NOT WRITABLE"),
        ),
        ("disk", f"{show.amount('bytes', found['disk_free'])} free here"),
    ]
    extras = []
    for name, packages in found["extras"].items():
        if not packages:  # the installed metadata does not know this extra
            continue
        missing = [p for p, v in packages.items() if v is None]
        there = ", ".join(f"{p} {v}" for p, v in packages.items() if v is not None)
        mark = "✗" if missing else "✓"
        words = f"missing: {', '.join(missing)}" if missing else there
        extras.append((f"{mark} {name}", _PURPOSES[name], words))
    advice = [show.escape(f"→ {text}") for text in found["advice"]] or ["Everything is there."]
    return Lines(
        show.table(("", ""), rows, names=(1,)),
        "",
        show.table(("extra", "for", ""), extras, names=(1, 2)),
        "",
        *advice,
    )
