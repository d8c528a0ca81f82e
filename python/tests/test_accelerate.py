"""Accelerate: trainings that stop and go on, in one process and in two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DataLoaderConfiguration

import milepost
from milepost.accelerate import load_state, save_state
from same import same


class Counter:
    """Something of the user's own."""

    def __init__(self) -> None:
        self.seen = 0

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


def train(path: Path, until: int) -> dict[str, Any]:
    """Up to a step, from the newest checkpoint on: dropout, shuffling, accumulation, a schedule."""
    torch.manual_seed(3)
    # The order of an epoch is made of its number then, and can be gone on with in the middle.
    order = DataLoaderConfiguration(use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, dataloader_config=order)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    data = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))
    # Beginning to iterate draws a number, which is not to be one of the model's.
    own = torch.Generator()
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True, generator=own)
    prepared = accelerator.prepare(model, optimizer, loader, schedule)
    model, optimizer, loader, schedule = prepared
    counter = Counter()
    accelerator.register_for_checkpointing(counter)
    with milepost.open(path) as store:
        found = load_state(accelerator, store)
        done = 0 if found is None else found.step
        while done < until:
            loader.set_epoch(done // 10)
            batches = skip_first_batches(loader, done % 10) if done % 10 else loader
            for x, y in batches:
                with accelerator.accumulate(model):
                    loss = torch.nn.functional.mse_loss(model(x), y)
                    accelerator.backward(loss)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                done, counter.seen = done + 1, counter.seen + len(x)
                # Between two optimizer steps gradients are part of no state.
                if done % 2 == 0:
                    save_state(accelerator, store, done)
                if done == until:
                    break
    return {
        "model": dict(accelerator.unwrap_model(model).state_dict()),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict()["_step_count"],
        "seen": counter.seen,
        "drawn": torch.rand(3),
    }


def test_a_training_goes_on_bit_for_bit_also_within_an_epoch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 30)
    for until in (6, 10, 24):
        train(tmp_path / "parts", until)
    assert same(train(tmp_path / "parts", 30), whole)
    store = milepost.open(tmp_path / "parts")
    assert store["latest"].step == 30 and store.verify(read_data=True)


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    train(tmp_path / "s", 2)
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(torch.nn.Linear(6, 1))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with milepost.open(tmp_path / "s") as store:
        with pytest.raises(milepost.MismatchError):
            load_state(accelerator, store)
        assert same(dict(model.state_dict()), before)
        with pytest.raises(milepost.ConflictError):
            save_state(accelerator, store, 2)
        assert [s.step for s in store.log()] == [2]


def test_models_that_are_spread_over_processes_are_refused(
    store: milepost.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.utils import DistributedType

    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(milepost.InvalidInputError, match="FSDP") as raised:
        save_state(accelerator, store, 1)
    assert "milepost.dcp" in raised.value.hint


PROCESS = """
import os, sys
import torch
from accelerate import Accelerator
import milepost
from milepost.accelerate import load_state, save_state

folder, mode = sys.argv[1:3]
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
torch.manual_seed(rank)
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model, optimizer = accelerator.prepare(model, optimizer)

def step():
    accelerator.backward(model(torch.randn(5, 8)).square().sum())
    optimizer.step()
    optimizer.zero_grad()

with milepost.open(folder) as store:
    if mode == "save":
        step()
        save_state(accelerator, store, 1)
        step()
        id_ = save_state(accelerator, store, 2, tags=["two"])
        assert store["two"].id == id_
        try:
            save_state(accelerator, store, 1)
        except milepost.Error as error:
            expected = milepost.ConflictError if rank == 0 else milepost.StorageError
            assert type(error) is expected, error
        else:
            raise AssertionError("another state of step 1 was saved")
    else:
        assert load_state(accelerator, store).step == 2
    sums = [p.sum().item() for p in accelerator.unwrap_model(model).parameters()]
    drawn = torch.rand(2).tolist()
    # Not to the output that both share: its pieces mix.
    with open(f"{folder}.{mode}.{rank}", "w") as told:
        told.write(f"{sums} {drawn}")
accelerator.end_training()
# Not by way of the interpreter's end, which may meet threads of gloo (pytorch#179291).
os._exit(0)
"""


def test_two_processes_save_one_checkpoint_with_the_generators_of_both(tmp_path: Path) -> None:
    program = tmp_path / "process.py"
    program.write_text(PROCESS)

    def run(mode: str, port: int) -> list[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        command += [f"--master-port={port}", str(program), str(tmp_path / "s"), mode]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return [(tmp_path / f"s.{mode}.{rank}").read_text() for rank in (0, 1)]

    told = run("save", 29611)
    assert told[0] != told[1], "each draws numbers of its own"
    assert run("load", 29612) == told
    store = milepost.open(tmp_path / "s")
    assert [s.step for s in store.log()] == [1, 2] and store.runs == ["main"]
    assert {"milepost.tree.0", "milepost.tree.1"} < set(store["two"].blobs)
