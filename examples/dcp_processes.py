"""torch.distributed.checkpoint with milepost, in two processes: run it again, and it goes on."""

import sys
import tempfile
from pathlib import Path

import milepost.dcp
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

PROCESSES = 2


def train(rank: int, meet: str, folder: str, steps: int) -> None:
    """Each process holds, saves and loads a half of the rows."""
    init = f"file://{meet}"
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=PROCESSES)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    torch.manual_seed(0)
    state = {"rows": distribute_tensor(torch.randn(8, 4), mesh, [Shard(0)]), "step": -1}
    with milepost.open(folder) as store:
        if "latest" in store:
            dcp.load(state, storage_reader=milepost.dcp.Reader(store))
        if rank == 0:
            print("goes on" if state["step"] >= 0 else "begins")
        for step in range(state["step"] + 1, steps):
            state["rows"] = state["rows"] * 0.9
            state["step"] = step
            if step % 4 == 3:
                dcp.save(state, storage_writer=milepost.dcp.Writer(store, step))
    total = state["rows"].full_tensor().sum().item()
    if rank == 0:
        print(f"rows {total:.9f}")
    dist.destroy_process_group()


def main(folder: str, steps: int) -> None:
    """Start the processes and wait for them."""
    with tempfile.TemporaryDirectory() as meet:
        arguments = (str(Path(meet) / "meet"), folder, steps)
        # Such processes skip the interpreter's end, which may meet threads of gloo and abort.
        torch.multiprocessing.start_processes(
            train, arguments, nprocs=PROCESSES, start_method="forkserver"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
