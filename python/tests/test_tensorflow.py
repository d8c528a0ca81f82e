"""Runs tensorflow_cases.py in a process of its own.

TensorFlow and the compiler that PyTorch loads on demand hold two copies of one library, which ends
a process that comes to have both.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("tensorflow_cases.py")


def test_every_case_passes() -> None:
    # -P: not the sources in the working folder, but the package that is tested.
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    defined = CASES.read_text().count("\ndef test_")
    assert f"{defined} passed" in done.stdout, done.stdout
