"""What tests share: a store in a folder of its own, and programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import milepost


@pytest.fixture
def store(tmp_path: Path) -> Iterator[milepost.Store]:
    """An empty store; small chunks, so that little data makes several."""
    with milepost.open(tmp_path / "store", chunk_bytes=4096) as opened:
        yield opened


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_program(tmp_path: Path) -> Run:
    """Runs a Python program in a process of its own."""

    def run(source: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(source)
        done = subprocess.run(
            [sys.executable, str(path), *args], capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run
