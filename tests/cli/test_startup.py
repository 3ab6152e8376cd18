"""What happens before there is anything to do: Ctrl-C while torch is being imported."""

import os
import signal
import subprocess
import sys

import pytest

from sentei import startup

# As pip writes it.
SCRIPT = """import sys
from sentei.cli.app import main
sys.exit(main())
"""


def interrupted_after(module, *command, **environment):
    """Send a real SIGINT when Python says that it has imported `module`; stderr, and the code."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        | environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:  # fmt: skip
        said, sent = [], False
        for line in child.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif not sent and line.split("|")[-1].strip() == module:
                child.send_signal(signal.SIGINT)
                sent = True
    assert sent, said
    return "".join(said), child.returncode


@pytest.mark.parametrize(
    "module", ["sentei.startup", "torch._C", "sentei.pruning", "typer", "sentei.cli.app"]
)
def test_ctrl_c_while_it_starts_is_one_line(module):
    said = interrupted_after(module, "-m", "sentei", "methods", "--family", "nothing")
    assert said == ("interrupted\n", 130)


def test_the_console_script_is_no_different(tmp_path):
    script = tmp_path / "sentei"
    script.write_text(SCRIPT)
    assert interrupted_after("torch._C", script, "doctor") == ("interrupted\n", 130)


def test_of_several_processes_the_first_says_it():
    team = {"WORLD_SIZE": "2", "RANK": "1"}
    assert interrupted_after("numpy", "-m", "sentei", "doctor", **team) == ("", 130)


def test_a_program_that_imports_sentei_keeps_its_own_ways(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import sentei\n")
    said, code = interrupted_after("numpy", script)
    assert "KeyboardInterrupt" in said and code == -signal.SIGINT


def test_work_may_end_in_order_and_what_is_ignored_stays_ignored(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sentei", "doctor"])
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        startup.begin()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, signal.default_int_handler)
        startup.begin()
        assert signal.getsignal(signal.SIGINT) is startup.leave
        with pytest.raises(KeyboardInterrupt), startup.interruptible():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is startup.leave
    finally:
        signal.signal(signal.SIGINT, before)
