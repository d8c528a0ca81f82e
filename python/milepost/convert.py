"""Checkpoints of other savers into a store, one after the other.

    python -m milepost.convert runs/gpt2 old/step-*.pt

Takes `.pt`, `.pth`, `.bin` and `.ckpt` of torch.save (by its loader that runs no code), `.npz`,
`.safetensors`, folders of torch.distributed.checkpoint and folders such as the `checkpoint-N` of
Hugging Face. What the state was, a load gives back; a folder's files come back byte for byte with
`milepost.hf.restore`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from milepost import safetensors_files
from milepost.errors import Error, InvalidInputError
from milepost.opening import open as open_store
from milepost.reports import SaveReport
from milepost.store import Store

#: The file that makes a folder one of torch.distributed.checkpoint.
_DCP_METADATA = ".metadata"

File = str | os.PathLike[str]


def read(source: File, *, trusted: bool = False) -> Any:
    """The state tree in a file or folder of another saver; arrays may be mapped, not read.

    The index of a folder of torch.distributed.checkpoint is a pickle, which can run any code:
    such folders are read only if they are `trusted`.

    Raises InvalidInputError if it is of no known kind, or holds more than data.
    """
    path = Path(source)
    try:
        return _of_folder(path, trusted) if path.is_dir() else _reader_of(path)(path)
    except (Error, OSError, MemoryError):
        raise
    except Exception as error:
        # Whatever another saver's reader finds wrong with its file.
        why = str(error).splitlines() or [type(error).__name__]
        raise InvalidInputError(
            f"{str(path)!r} is damaged or holds more than data: {why[0]}",
            code="input-file",
            hint="save a model's or optimizer's state_dict(), not the object itself",
        ) from error


def _reader_of(path: Path) -> Callable[[Path], Any]:
    if not path.is_file():
        raise InvalidInputError(f"there is no {str(path)!r}", code="input-file")
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InvalidInputError(
            f"{str(path)!r} is of no known kind",
            code="input-file",
            hint=f"{', '.join(_READERS)}, or a folder of checkpoints",
        )
    return reader


def step_of(source: File) -> int | None:
    """The last number in a file's or folder's name, as in `step-1200.pt` and `checkpoint-500`."""
    numbers = re.findall(r"\d+", Path(source).stem if Path(source).is_file() else Path(source).name)
    return int(numbers[-1]) if numbers else None


def import_into(
    store: Store,
    source: File,
    *,
    step: int | None = None,
    run: str | None = None,
    trusted: bool = False,
) -> SaveReport:
    """Saves what a file or folder holds as a checkpoint.

    The step is that in its name if none is given, else one more than the run's newest. A step
    that the run has with the same state stays as it is.

    Raises what `read` and Store.save raise.
    """
    found = step_of(source) if step is None else step
    state = read(source, trusted=trusted)
    metadata = {"imported": Path(source).name}
    return store.save(found, state, run=run, metadata=metadata).result()


def _of_folder(path: Path, trusted: bool) -> Any:
    if not (path / _DCP_METADATA).is_file():
        return safetensors_files.read_folder(path)
    if not trusted:
        raise InvalidInputError(
            f"the index of {str(path)!r} is a pickle, which can run any code",
            code="untrusted",
            hint="if you made it yourself, pass trusted=True (--trusted)",
        )
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    state: dict[str, Any] = {}
    _load_state_dict(
        state,
        storage_reader=FileSystemReader(path),
        planner=_EmptyStateDictLoadPlanner(),  # type: ignore[no-untyped-call]
        no_dist=True,
    )
    return state


def _of_torch(path: Path) -> Any:
    import torch

    # Files of before PyTorch 1.6 are no archives and cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _of_numpy(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _of_safetensors(path: Path) -> dict[str, Any]:
    taken = safetensors_files.read_tensors(path)
    if taken is None:
        raise ValueError("it is no whole safetensors file")
    return taken[1]


_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(_TORCH, _of_torch),
    ".npz": _of_numpy,
    ".safetensors": _of_safetensors,
}


def main(args: Sequence[str] | None = None) -> int:
    """`python -m milepost.convert`: 0, or 1 if something was not taken in; the rest is."""
    parser = argparse.ArgumentParser(
        prog="python -m milepost.convert",
        description="Take checkpoints of other savers into a store, in the order of their steps.",
    )
    parser.add_argument("store", help="the store; it is made if there is none")
    parser.add_argument("sources", nargs="+", help="files and folders")
    parser.add_argument("--run", default="main", help="the run to save to (main)")
    parser.add_argument("--trusted", action="store_true", help="read pickled indexes of folders")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each")
    given = parser.parse_args(args)
    listed = [inner for source in given.sources for inner in _inside(source)]
    sources = sorted(listed, key=lambda s: (step_of(s) is None, step_of(s) or 0, s))
    failed = 0
    with open_store(given.store, run=given.run) as store:
        for source in sources:
            try:
                report = import_into(store, source, trusted=given.trusted)
            except (Error, OSError) as error:
                failed += 1
                print(f"error: {source}: {error}", file=sys.stderr)
                if hint := getattr(error, "hint", None):
                    print(f"  hint: {hint}", file=sys.stderr)
                continue
            print(_line(source, report, given.json), flush=True)
    return 1 if failed else 0


def _inside(source: str) -> list[str]:
    """The files in a folder that holds nothing but checkpoints of steps; else what was named."""
    path = Path(source)
    inner = sorted(path.iterdir()) if path.is_dir() else []
    files = all(p.is_file() and p.suffix in _READERS and step_of(p) is not None for p in inner)
    shards = any("-of-" in p.name for p in inner)
    return [str(p) for p in inner] if inner and files and not shards else [source]


def _line(source: str, report: SaveReport, as_json: bool) -> str:
    if as_json:
        told = {"source": source, "run": report.run, "step": report.step, "id": report.id}
        told |= {"logical_bytes": report.logical_bytes, "added_bytes": report.added_bytes}
        return json.dumps(told)
    share = report.added_bytes / max(report.logical_bytes, 1)
    mega = report.logical_bytes / 1e6
    return f"{source}: step {report.step} of run {report.run}, {mega:.1f} MB stored as {share:.1%}"


if __name__ == "__main__":
    sys.exit(main())
