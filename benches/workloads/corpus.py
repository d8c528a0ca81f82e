"""Real English and Python text that ships with the Python interpreter, as one byte string.

No download is needed: the language's own reference topics and the sources of its standard
library make a few megabytes of text with long-range structure.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path


def load_bytes(at_least: int = 4 << 20) -> bytes:
    """Joins the reference topics and library sources, in a fixed order, to `at_least` bytes."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [library / "pydoc_data" / "topics.py", *sorted(library.glob("*.py"))]
    parts: list[bytes] = []
    length = 0
    for file in files:
        if length >= at_least:
            break
        part = file.read_bytes()
        parts.append(part)
        length += len(part)
    return b"\n".join(parts)
