"""The functions of the safetensors package, on stores.

    from milepost.safetensors import load_file, safe_open, save_file

take the same arguments; where a file is named, a folder with a store will do: `runs/gpt2` is its
newest checkpoint, `runs/gpt2@best` one by revision. To save, `runs/gpt2@step:500` names the
step. Files that are safetensors files are read as such. Tied tensors and tensors that are not
contiguous can be saved.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from milepost.checkpoint import Checkpoint
from milepost.errors import InvalidInputError, NotFoundError, UnsupportedTypeError
from milepost.lazy import LazyTensor
from milepost.leaves import as_leaf
from milepost.opening import open as open_store

#: What `milepost save` keeps of a file that it saved.
_HEADER_BLOB = "safetensors.header"
_FRAMEWORKS = {
    "pt": "torch",
    "torch": "torch",
    "pytorch": "torch",
    "np": "numpy",
    "numpy": "numpy",
    "jax": "jax",
    "flax": "jax",
}

File = str | os.PathLike[str]


def _split(filename: File) -> tuple[str, str]:
    """The folder and the revision that a name means."""
    name = os.fspath(filename)
    folder, at, revision = name.partition("@")
    if os.path.exists(name) or not at:
        return name, ""
    return folder, revision


def _is_file(filename: File) -> bool:
    return os.path.isfile(_split(filename)[0])


def save_file(
    tensors: Mapping[str, Any], filename: File, metadata: Mapping[str, str] | None = None
) -> None:
    """Saves tensors as the next checkpoint of a store, which is made if there is none.

    `STORE@step:N`, `STORE@RUN` and `STORE@RUN@step:N` name the step and the run.
    """
    folder, revision = _split(filename)
    if os.path.isfile(folder):
        raise InvalidInputError(f"{folder!r} is a file, not a store", hint="name a folder")
    found = re.fullmatch(r"(?:(?P<run>[^:@]+)@?)?(?:step:(?P<step>\d+))?", revision)
    if found is None:
        raise InvalidInputError(
            f"{revision!r} names no step to save", hint="STORE@step:N or STORE@RUN@step:N"
        )
    run, step = found["run"] or "main", found["step"]
    for name, value in tensors.items():
        if as_leaf(value, name) is None:
            raise UnsupportedTypeError(
                f"{name!r} is a {type(value).__name__}, not a tensor",
                code="leaf",
                hint="milepost.open(...).save takes trees of anything",
            )
    with open_store(folder, run=run) as store:
        store.save(None if step is None else int(step), dict(tensors), metadata=metadata)


def load_file(filename: File, device: Any = "cpu", *, framework: str = "pt") -> dict[str, Any]:
    """Every tensor of a checkpoint or of a safetensors file, by name."""
    with safe_open(filename, framework, device) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


class safe_open:
    """Opens a checkpoint, or a safetensors file, to read tensors one by one."""

    def __init__(self, filename: File, framework: str = "pt", device: Any = "cpu") -> None:
        if framework not in _FRAMEWORKS:
            known = ", ".join(_FRAMEWORKS)
            raise InvalidInputError(f"{framework!r} is no framework", hint=f"one of {known}")
        self._framework, self._device = _FRAMEWORKS[framework], device
        self._file: Any = None
        self._checkpoint: Checkpoint | None = None
        if _is_file(filename):
            self._file = _open_file(filename, framework, device)
        else:
            folder, revision = _split(filename)
            self._checkpoint = open_store(folder, mode="r")[revision or "latest"]

    def __enter__(self) -> safe_open:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.__exit__(kind, error, trace)

    def _lazy(self, name: str) -> LazyTensor:
        assert self._checkpoint is not None
        return self._checkpoint[name]

    def keys(self) -> list[str]:
        """The names of all tensors, sorted; of tied ones every name."""
        if self._checkpoint is None:
            return list(self._file.keys())
        return sorted([*self._checkpoint, *self._checkpoint.tied])

    def offset_keys(self) -> list[str]:
        """The names of all tensors, in an order that is good to read them in."""
        return list(self._file.offset_keys()) if self._checkpoint is None else self.keys()

    def metadata(self) -> dict[str, str]:
        """The metadata it was saved with."""
        if self._checkpoint is None:
            return dict(self._file.metadata() or {})
        return dict(self._checkpoint.metadata)

    def get_tensor(self, name: str) -> Any:
        """A tensor, in memory of its own.

        Raises NotFoundError, which is a KeyError, if there is none of that name.
        """
        if self._checkpoint is None:
            return self._file.get_tensor(name)
        return _Slice(self._lazy(name), self._framework, self._device)[...]

    def get_slice(self, name: str) -> Any:
        """A tensor of which parts can be read by indexing."""
        if self._checkpoint is None:
            return self._file.get_slice(name)
        return _Slice(self._lazy(name), self._framework, self._device)


class _Slice:
    """A tensor of which parts can be read."""

    def __init__(self, lazy: LazyTensor, framework: str, device: Any) -> None:
        self._lazy, self._framework, self._device = lazy, framework, device

    def get_shape(self) -> list[int]:
        return list(self._lazy.shape)

    def get_dtype(self) -> str:
        return self._lazy.dtype

    def __getitem__(self, index: Any) -> Any:
        lazy = self._lazy if index is Ellipsis else self._lazy[index]
        if self._framework == "torch":
            return lazy.torch(device=self._device)
        array = lazy.numpy()
        if self._framework == "jax":
            import jax

            return jax.numpy.asarray(array)
        return array


def _open_file(filename: File, framework: str, device: Any) -> Any:
    try:
        import safetensors
    except ImportError:
        raise NotFoundError(
            f"{os.fspath(filename)!r} is a file, and the safetensors package is not installed",
            hint="install safetensors, or name a store",
        ) from None
    opened: Any = safetensors.safe_open(filename, framework=framework, device=device)
    return opened.__enter__()


def export(checkpoint: Checkpoint, filename: File) -> None:
    """Writes a checkpoint's tensors as a safetensors file, which appears whole or not at all.

    A file that was saved with `milepost save` comes back byte for byte. Tied tensors are written
    under each of their names. Values of the tree that
    are no tensors are not part of such a file.
    """
    target = os.path.abspath(os.fspath(filename))
    header, names = _header(checkpoint)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".milepost-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            for name in names:
                file.write(checkpoint[name].tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _header(checkpoint: Checkpoint) -> tuple[bytes, list[str]]:
    """A header with its length, and the tensors in the order of their bytes."""
    if _HEADER_BLOB in checkpoint.blobs:
        header = checkpoint.blob(_HEADER_BLOB)
        told = json.loads(header[8:])
        told.pop("__metadata__", None)
        return header, sorted(told, key=lambda name: told[name]["data_offsets"])
    # Wide elements first, as the safetensors package writes them.
    every = [*checkpoint, *checkpoint.tied]
    names = sorted(every, key=lambda n: (-_width(checkpoint[n]), n))
    entries: dict[str, Any] = {}
    if checkpoint.metadata:
        entries["__metadata__"] = checkpoint.metadata
    at = 0
    for name in names:
        lazy = checkpoint[name]
        end = at + lazy.nbytes
        stored = lazy.stored
        entries[name] = {"dtype": stored[0], "shape": stored[1], "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, names


def _width(lazy: LazyTensor) -> int:
    elements = 1
    for length in lazy.stored[1]:
        elements *= length
    return lazy.nbytes // elements if elements else 1
