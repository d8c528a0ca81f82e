"""A few of the rounds that benches/endurance.py does by thousands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "benches" / "endurance.py"


def test_nothing_grows_with_saves_and_loads(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path), "--rounds", "150"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert told["rounds"] == 150 and told["most"][-1]["threads"] >= 1
