"""Checkpoints as the rivals see them: bytes of a safetensors file, cut into runs of one dtype."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy

WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2}
FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Part:
    """Neighbouring bytes of one dtype; offsets count from the start of the file."""

    dtype: str
    start: int
    stop: int

    @property
    def width(self) -> int:
        """Bytes of one value."""
        return WIDTHS.get(self.dtype, 1)


class State:
    """One checkpoint file, read whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.header_bytes = 8 + int.from_bytes(self.data[:8], "little")

    @property
    def step(self) -> int:
        """The step in the file's name."""
        return int(self.path.stem.split("-")[1])

    @cached_property
    def tensors(self) -> dict[str, Part]:
        """Where each tensor's bytes are, by name, in the order of the file."""
        header = json.loads(self.data[8 : self.header_bytes])
        header.pop("__metadata__", None)
        parts = {}
        for name, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = (self.header_bytes + o for o in facts["data_offsets"])
            parts[name] = Part(facts["dtype"], start, stop)
        return parts

    @cached_property
    def runs(self) -> list[Part]:
        """The same bytes with neighbours of one dtype joined."""
        runs: list[Part] = []
        for part in self.tensors.values():
            if runs and runs[-1].dtype == part.dtype and runs[-1].stop == part.start:
                runs[-1] = Part(part.dtype, runs[-1].start, part.stop)
            else:
                runs.append(part)
        return runs

    def bytes_of(self, part: Part) -> numpy.ndarray:
        """The bytes of a part, not copied."""
        return numpy.frombuffer(self.data, numpy.uint8, part.stop - part.start, part.start)

    def like(self, other: State | None) -> bool:
        """Whether both hold the same tensors in the same order."""
        if other is None:
            return False
        mine, others = self.tensors, other.tensors
        return list(mine) == list(others) and all(
            mine[n].dtype == others[n].dtype
            and mine[n].stop - mine[n].start == others[n].stop - others[n].start
            for n in mine
        )


def load_states(folder: Path) -> list[Path]:
    """The files of a workload, in the order of their steps."""
    return sorted(folder.glob("step-*.safetensors"))
