"""Small files at the paths where a framework looks for checkpoints of its own.

Each names a checkpoint of a store, so that what looks for files finds them. They appear whole, and
are durable when they are told of.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from milepost.opening import File

_BYTES_MAX = 64 << 10


def read(path: File, form: str) -> dict[str, Any] | None:
    """What the file at a path tells, or None if there is none of this form."""
    try:
        with open(path, encoding="utf-8") as file:
            told = json.loads(file.read(_BYTES_MAX))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("format") == form else None


def write(path: File, form: str, **told: Any) -> None:
    """Puts a file at a path, in place of what was there; folders are made.

    Raises OSError if the operating system refuses.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unique = hashlib.sha256(f"{target}{os.getpid()}".encode()).hexdigest()[:12]
    temporary = target.with_name(f".{target.name}.{unique}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"format": form, **told}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
