"""File systems in files: made, mounted where only this process sees them, cut off, gone with it.

Every mount lives in a namespace of its own. When the processes in it end, however they end, the
kernel unmounts all of it and frees the loop devices.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
CLONE = 0x40049409  # FICLONE
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MIB = 1 << 20
# How each kind of file system is made, its smallest size, and how a copy is mounted beside it.
KINDS: dict[str, tuple[list[str], int, str]] = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-m", "0"], 32 * MIB, "loop"),
    "xfs": (["mkfs.xfs", "-q", "-f"], 320 * MIB, "loop,nouuid"),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 128 * MIB, "loop"),
}


def call(*command: object) -> None:
    """Runs a program of the system, which must not fail."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def private() -> None:
    """From here on, mounts of this process and its children are theirs alone."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "no private mounts")
    call("mount", "--make-rprivate", "/")


def end_with_parent() -> None:
    """Lets this process die with the one that started it, and its mounts with both."""
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def another_boot(folder: Path) -> None:
    """Lets this process see what a machine shows that has been started again: another boot id."""
    file = folder / f"boot-{os.getpid()}"
    file.write_text(f"{uuid.uuid4()}\n")
    call("mount", "--bind", file, BOOT_ID)


def make(image: Path, kind: str, size: int | None = None, *options: object) -> None:
    """An empty file system in a file."""
    program, smallest, _ = KINDS[kind]
    with open(image, "wb") as file:
        file.truncate(size or smallest)
    call(*program, *options, image)


@contextmanager
def mounted(image: Path, at: Path, kind: str = "ext4", options: str = "") -> Iterator[Path]:
    """The file system of an image, as long as it is needed."""
    at.mkdir(exist_ok=True)
    loop = KINDS[kind][2]
    call("mount", "-t", kind, "-o", f"{loop},{options}" if options else loop, image, at)
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def in_memory(at: Path, size: int, options: str = "") -> Iterator[Path]:
    """A file system of so many bytes in memory."""
    at.mkdir(exist_ok=True)
    call("mount", "-t", "tmpfs", "-o", f"size={size}{options}", "none", at)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at: Path) -> None:
    try:
        call("umount", at)
    except OSError:
        # Somebody still has a file open there; it goes when they do.
        call("umount", "--lazy", at)


def clone(source: Path, to: Path) -> None:
    """A copy of a file as it is at one instant: its blocks are shared, and no write gets between.

    A copy that is read block by block would hold what came later and lack what came before,
    which no power cut leaves behind a device that was told to flush.
    """
    with open(source, "rb") as old, open(to, "wb") as new:
        fcntl.ioctl(new, CLONE, old.fileno())


@contextmanager
def pool(folder: Path, size: int = 4096 * MIB) -> Iterator[Path]:
    """A folder in which files can be cloned."""
    image = folder / "pool.img"
    make(image, "xfs", size, "-m", "reflink=1")
    try:
        with mounted(image, folder / "pool", "xfs") as at:
            yield at
    finally:
        image.unlink()
