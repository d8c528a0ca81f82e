"""The ways in which trainings save with PyTorch, driven line by line; run by a Python that has it.

Reads JSON objects from standard input, one a line, with what to do: `save` or `load`, by which
saver, where, and the step that says what bytes there are. Answers each with a line: `ok`, or
what went wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp

TENSORS, FLOATS = 8, 65536  # 256 KiB each


def state(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {f"layer{i}": torch.randn(FLOATS, generator=generator) for i in range(TENSORS)}


def save(saver: str, path: Path, tensors: dict[str, torch.Tensor]) -> None:
    if saver == "torch.save":
        torch.save(tensors, path)
    elif saver == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        dcp.save(tensors, checkpoint_id=path)


def load(saver: str, path: Path) -> dict[str, torch.Tensor]:
    if saver == "torch.save":
        return torch.load(path, weights_only=True)
    if saver == "safetensors":
        return safetensors.torch.load_file(path)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in state(0).items()}
    dcp.load(tensors, checkpoint_id=path)
    return tensors


def answer(asked: dict[str, Any]) -> str:
    path, expected = Path(asked["path"]), state(asked["step"])
    try:
        if asked["do"] == "save":
            save(asked["saver"], path, expected)
            return "ok"
        found = load(asked["saver"], path)
    except BaseException as error:  # what DCP raises is no Exception
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    is_same = found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )
    return "ok" if is_same else "other bytes than were saved"


def main() -> None:
    versions = f"torch {torch.__version__}, safetensors {safetensors.__version__}"
    print(versions, flush=True)
    for line in sys.stdin:
        print(answer(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
