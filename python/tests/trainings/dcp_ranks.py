"""torch.distributed.checkpoint in two processes of gloo, saved by async_save."""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

import milepost.dcp
from common import digest, tell

warnings.simplefilter("ignore")
RANKS = 2


def rank_trains(rank: int, meet: str, folder: Path, steps: int) -> None:
    """Descends with momentum on rows of which each rank has a half."""
    (folder / f"rank{rank}.pid").write_text(str(os.getpid()))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    torch.manual_seed(0)
    state = {
        "rows": distribute_tensor(torch.randn(512, 257), mesh, [Shard(0)]),
        "momentum": distribute_tensor(torch.zeros(512, 257), mesh, [Shard(0)]),
        "random": torch.get_rng_state(),
        "step": -1,
    }
    with milepost.open(folder / "store") as store:
        if "latest" in store:
            dcp.load(state, storage_reader=milepost.dcp.Reader(store))
        torch.set_rng_state(state["random"])
        if rank == 0:
            tell(state["step"] if state["step"] >= 0 else None)
        under_way = None
        for step in range(state["step"] + 1, steps):
            state["momentum"] = state["momentum"] * 0.9 + state["rows"] * torch.rand(1).item()
            state["rows"] = state["rows"] - 0.1 * state["momentum"]
            state |= {"step": step, "random": torch.get_rng_state()}
            if step % 2 == 1:
                if under_way is not None:
                    under_way.result()
                writer = milepost.dcp.Writer(store, step)
                under_way = dcp.async_save(dict(state), storage_writer=writer)
        if under_way is not None:
            under_way.result()
    whole = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}
    if rank == 0:
        (folder / "digest").write_text(digest(whole))
    dist.destroy_process_group()


def start(rank: int, meet: str, folder: Path, steps: int) -> int:
    """Forks a rank."""
    pid = os.fork()
    if pid == 0:
        try:
            rank_trains(rank, meet, folder, steps)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def train(folder: Path, steps: int) -> str:
    """Starts the ranks; if one is killed, all are, as a scheduler does."""
    with tempfile.TemporaryDirectory() as place:
        for rank in range(RANKS):
            start(rank, f"{place}/meet", folder, steps)
        for _ in range(RANKS):
            status = os.waitstatus_to_exitcode(os.wait()[1])
            if status:
                os.killpg(0, signal.SIGKILL)
    return (folder / "digest").read_text()
