"""Rivals that are programs of their own: zstd -19, xdelta3, borg and restic."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import time
from pathlib import Path

from inprocess import Figures

XDELTA_WINDOW = 1 << 29
SAMPLE_BYTES = 1 << 20
# Of every so many pieces zstd -19 codes one, where it is sampled.
SAMPLE_EVERY = 16


def call(*command: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command; its standard output. A failure is an error."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}\n{done.stderr}")
    return done.stdout


def timed(*command: object, **options: object) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    call(*command, **options)
    return time.perf_counter() - started


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def zstd_19(files: list[Path], work: Path, sampled: bool) -> Figures:
    """zstd -19 on all cores; sampled, of one piece in sixteen of each file, scaled to the whole."""
    figures = Figures(identical=True, note="all cores, -T0")
    if sampled:
        figures.note += f"; sampled: 1 MiB of every {SAMPLE_EVERY} MiB, scaled"
    for path in files:
        source, target, back = work / "19", work / "19.zst", work / "19.back"
        data = path.read_bytes()
        if sampled:
            stride = SAMPLE_BYTES * SAMPLE_EVERY
            starts = range(0, len(data), stride)
            source.write_bytes(b"".join(data[at : at + SAMPLE_BYTES] for at in starts))
        else:
            source.write_bytes(data)
        size = source.stat().st_size
        seconds = timed("zstd", "-q", "-f", "-19", "-T0", source, "-o", target)
        figures.encode_speeds.append(size / seconds)
        figures.decode_speeds.append(size / timed("zstd", "-q", "-f", "-d", target, "-o", back))
        figures.identical &= filecmp.cmp(source, back, shallow=False)
        figures.sizes.append(round(target.stat().st_size * len(data) / size))
    return figures


def xdelta3(files: list[Path], work: Path) -> Figures:
    """xdelta3 at its default level against the previous file, which is all in its window."""
    figures = Figures(identical=True)
    previous: list[object] = []
    for path in files:
        target, back = work / "x.delta", work / "x.back"
        window = ("-B", XDELTA_WINDOW)
        encode = timed("xdelta3", "-e", "-f", "-q", *window, *previous, path, target)
        decode = timed("xdelta3", "-d", "-f", "-q", *window, *previous, target, back)
        figures.identical &= filecmp.cmp(path, back, shallow=False)
        figures.sizes.append(target.stat().st_size)
        figures.encode_speeds.append(path.stat().st_size / encode)
        figures.decode_speeds.append(path.stat().st_size / decode)
        previous = ["-s", path]
    return figures


def repository(files: list[Path], work: Path, tool: str) -> Figures:
    """borg or restic: one archive for each file, under one name, in one repository."""
    root, tree, out = work / tool, work / f"{tool}-tree", work / f"{tool}-out"
    tree.mkdir()
    env = {
        "RESTIC_PASSWORD": "bench",
        "RESTIC_REPOSITORY": str(root),
        "RESTIC_CACHE_DIR": str(work / "restic-cache"),
        "BORG_BASE_DIR": str(work / "borg-base"),
        "BORG_REPO": str(root),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    borg = tool == "borg"
    call(*(("borg", "init", "-e", "none") if borg else ("restic", "init")), env=env)
    figures = Figures(identical=True, note="zstd 3" if borg else "--compression max")
    before = 0
    for at, path in enumerate(files):
        shutil.copy(path, tree / "state.safetensors")
        if borg:
            save = ("borg", "create", "-C", "zstd,3", f"::s{at}", "state.safetensors")
            load = ("borg", "extract", f"::s{at}")
        else:
            save = ("restic", "backup", "--compression", "max", "--tag", f"s{at}", ".")
            load = ("restic", "restore", "latest", "--tag", f"s{at}", "--target", out)
        figures.encode_speeds.append(path.stat().st_size / timed(*save, env=env, cwd=tree))
        size = folder_bytes(root)
        figures.sizes.append(size - before)
        before = size
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        figures.decode_speeds.append(path.stat().st_size / timed(*load, env=env, cwd=out))
        back = next(out.rglob("state.safetensors"))
        figures.identical &= filecmp.cmp(path, back, shallow=False)
    return figures
