"""Paths of leaves, as people read them and as tensors are called."""

from __future__ import annotations

import hashlib
from typing import Any

#: Longest name that a store takes, in bytes of UTF-8; some are kept for what makes names unique.
_NAME_LEN_MAX = 4000

Path = tuple[Any, ...]


def shown(path: Path) -> str:
    """A path for people: `optim.state[0].exp_avg`."""
    text = ""
    for part in path:
        if isinstance(part, str):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text or "the tree itself"


class Names:
    """Hands out names that no two leaves share; the same tree gets the same names every time."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, path: Path) -> str:
        """The name of the leaf at a path: its parts with dots between them."""
        parts = (part if isinstance(part, str) else repr(part) for part in path)
        base = _allowed(".".join(parts)) or "value"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}~{number}"
        self._taken.add(name)
        return name


def _allowed(text: str) -> str:
    """The text without what no name may have."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if not clean.isprintable():
        clean = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in clean)
    if len(clean.encode()) <= _NAME_LEN_MAX:
        return clean
    digest = hashlib.sha256(clean.encode()).hexdigest()[:16]
    return clean.encode()[: _NAME_LEN_MAX - 20].decode("utf-8", "ignore") + "~" + digest
