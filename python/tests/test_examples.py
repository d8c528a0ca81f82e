"""The examples run, resume, and are as short as the documentation says."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import milepost

REPOSITORY = Path(__file__).parent.parent.parent
EXAMPLES = REPOSITORY / "examples"
CHANGED_LINES_MAX = 5
#: DeepSpeed compiles its communication with the tools beside the interpreter.
BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "PATH": BESIDE}
BACKENDS = {"tensorflow_loop.py": "tensorflow"}


def run(name: str, tmp_path: Path, *args: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *args]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        env={**os.environ, **ENVIRONMENT, "KERAS_BACKEND": BACKENDS.get(name, "torch")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_plain_loop_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = run("plain_torch.py", tmp_path, "whole", "40")
    run("plain_torch.py", tmp_path, "parts", "20")
    assert run("plain_torch.py", tmp_path, "parts", "40") == whole
    # The program seeds PyTorch's generator only.
    seeded = ("model.", "optimizer.", "random.torch")
    one, other = (
        {name: t.tobytes() for name, t in store["latest"].items() if name.startswith(seeded)}
        for store in (milepost.open(tmp_path / "whole"), milepost.open(tmp_path / "parts"))
    )
    assert one == other and len(one) > 10
    assert [s.step for s in milepost.open(tmp_path / "parts").log()] == [9, 19, 29, 39]


@pytest.mark.parametrize(
    "name",
    [
        "accelerate_loop",
        "dcp_processes",
        "deepspeed_zero",
        "hugging_face",
        "jax_pytree",
        "keras_model",
        "lightning_module",
        "tensorflow_loop",
    ],
)
def test_an_example_of_a_framework_resumes_to_the_same_end(name: str, tmp_path: Path) -> None:
    def told(folder: str, steps: int) -> list[str]:
        """How it started and how it ended."""
        lines = run(f"{name}.py", tmp_path, folder, str(steps))
        return [line for line in lines if line in ("begins", "goes on")] + lines[-1:]

    whole = told("whole", 8)
    assert whole[0] == told("parts", 4)[0] == "begins"
    assert told("parts", 8) == ["goes on", whole[1]]


def changed(name: str) -> list[str]:
    """The lines of code that differ once a script uses milepost."""

    def code(path: Path) -> list[str]:
        return [
            line for line in path.read_text().splitlines() if not line.lstrip().startswith('"""')
        ]

    marked = difflib.ndiff(code(EXAMPLES / "before" / name), code(EXAMPLES / name))
    return [line for line in marked if line.startswith(("+ ", "- "))]


@pytest.mark.parametrize("name", sorted(p.name for p in (EXAMPLES / "before").iterdir()))
def test_adopting_it_changes_five_lines_at_most_and_the_documentation_shows_them(
    name: str, tmp_path: Path
) -> None:
    run(f"before/{name}", tmp_path, "before", "8")
    added = [line[2:].strip() for line in changed(name) if line.startswith("+ ")]
    assert 0 < len(added) <= CHANGED_LINES_MAX
    shown = (REPOSITORY / "docs" / "python.md").read_text()
    for line in changed(name):
        assert line[:1] + line[2:] in shown.splitlines(), line


def test_the_lines_of_the_readme_run(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    lines = readme.split("```python\n")[1].split("```")[0]
    before = (
        "import torch\n"
        "model, steps = torch.nn.Linear(2, 2), 5\n"
        "optimizer = torch.optim.AdamW(model.parameters())\n"
        "def train_step(): return 0.5\n"
    )
    program = tmp_path / "readme.py"
    program.write_text(before + lines)
    subprocess.run([sys.executable, str(program)], check=True, cwd=tmp_path, timeout=120)
    assert milepost.open(tmp_path / "runs" / "gpt2")["latest"].metrics == {"loss": 0.5}
