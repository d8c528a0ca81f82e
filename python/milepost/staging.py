"""Memory for saves in the background: a copy of the state, so that training can go on.

There are two arenas, so that one save can be staged while another is being written. They are
kept and used again: after the first saves, staging allocates nothing.
"""

from __future__ import annotations

import mmap
import threading

from milepost.leaves import Leaf

#: Saves that may hold a copy of the state at once.
ARENAS = 2
_ALIGN = 64


class Arena:
    """Memory for one copy of a state."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    def stage(self, leaves: dict[str, Leaf]) -> dict[str, memoryview]:
        """Copies every leaf; returns where each lies. It stays so until the next call."""
        need = sum(_aligned(leaf.nbytes) for leaf in leaves.values())
        if self._memory is None or len(self._memory) < need:
            # Not resized: views of the old one may still be held. Zeroed only when touched.
            self._memory = None
            self._memory = mmap.mmap(-1, max(need, mmap.PAGESIZE))
        view, staged, at = memoryview(self._memory), {}, 0
        for name, leaf in leaves.items():
            target = view[at : at + leaf.nbytes]
            leaf.copy_into(target)
            staged[name] = target
            at += _aligned(leaf.nbytes)
        return staged


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


class Arenas:
    """Lends arenas; whoever wants one when all are lent waits."""

    def __init__(self, count: int = ARENAS) -> None:
        self._free = [Arena() for _ in range(count)]
        self._changed = threading.Condition()

    def take(self) -> Arena:
        """An arena, once one is free."""
        with self._changed:
            while not self._free:
                self._changed.wait()
            return self._free.pop()

    def give(self, arena: Arena) -> None:
        """Gives an arena back."""
        with self._changed:
            self._free.append(arena)
            self._changed.notify()
