"""Small file systems of their own: mounted from images, copied in an instant, unmounted always."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def missing(*programs: str) -> str | None:
    """Why file systems cannot be made here, if they cannot."""
    if os.geteuid() != 0:
        return "only root may mount"
    lacking = [p for p in (*programs, "mount", "umount") if not shutil.which(p)]
    if lacking:
        return f"there is no {' and no '.join(lacking)}"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if tried.returncode != 0:
            return "mounting is not allowed"
        subprocess.run(["umount", folder], check=True)
    return None


@contextlib.contextmanager
def mounted(source: str, *options: str) -> Iterator[Path]:
    """Mounts an image or a tmpfs on a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="milepost-mount-"))
    try:
        subprocess.run(["mount", *options, source, str(folder)], check=True, capture_output=True)
        try:
            yield folder
        finally:
            unmount(folder)
    finally:
        folder.rmdir()


def unmount(folder: Path) -> None:
    """Now, or as soon as the last process has left it."""
    if subprocess.run(["umount", str(folder)], capture_output=True).returncode != 0:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def tmpfs(size_bytes: int, inodes: int = 0) -> Iterator[Path]:
    """A file system in memory, of just that size."""
    options = f"size={size_bytes}" + (f",nr_inodes={inodes}" if inodes else "")
    with mounted("tmpfs", "-t", "tmpfs", "-o", options) as folder:
        yield folder


def make_ext4(image: Path, size_bytes: int, *flags: str) -> None:
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-F", *flags, str(image)], check=True, capture_output=True)


@contextlib.contextmanager
def shelf(size_bytes: int) -> Iterator[Path]:
    """A folder whose files can be copied in an instant, whoever writes to them: XFS shares blocks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        image = Path(memory) / "shelf"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True, capture_output=True)
        with mounted(str(image), "-o", "loop") as folder:
            yield folder


def copy_in_an_instant(image: Path, copy: Path) -> None:
    subprocess.run(["cp", "--reflink=always", str(image), str(copy)], check=True)
