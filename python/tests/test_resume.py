"""A training that is killed and resumed goes on bit for bit as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import milepost

TRAIN = """
import hashlib, random, sys
import numpy as np, torch
import milepost

folder, steps = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
seed = int(sys.argv[3])
random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
layers = [torch.nn.Linear(64, 256), torch.nn.Dropout(0.3), torch.nn.Linear(256, 4)]
model = torch.nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps + 1)
scaler = torch.amp.GradScaler("cpu", growth_interval=3)
data = torch.utils.data.TensorDataset(torch.arange(640.0).reshape(10, 64) / 640)
loader = milepost.ResumableLoader(data, batch_size=3, seed=5)
training = milepost.Training(
    model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, loader=loader, step=0,
    ema={k: v.clone() for k, v in model.state_dict().items()},
)

def train_step(batch):
    noise = random.random() + float(np.random.rand()) + torch.randn(1)
    loss = (model(batch[0] * noise) ** 2).mean()
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    for name, value in model.state_dict().items():
        training.ema[name].lerp_(value, 0.1)

with milepost.open(folder) as store:
    report = training.resume(store)
    print("resumed", report.step if report else None, flush=True)
    while training.step < steps:
        for batch in loader:
            train_step(batch)
            training.step += 1
            print("saving", training.step, flush=True)
            training.save(store, training.step, wait=training.step % 3 == 0)
            if training.step == steps:
                break
    store.wait()
    digest = hashlib.sha256()
    for name, tensor in sorted(store["latest"].items()):
        digest.update(name.encode() + tensor.tobytes())
    digest.update(store["latest"].blob("milepost.tree"))
    print("digest", digest.hexdigest(), flush=True)
"""


def start(path: Path, folder: Path, seed: int) -> subprocess.Popen[str]:
    path.write_text(TRAIN)
    command = [sys.executable, str(path), str(folder), "14", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    whole = start(program, tmp_path / "whole", 1).communicate()[0]
    expected = whole.splitlines()[-1]
    assert expected.startswith("digest ")
    resumed = []
    for at in (4, 6, 8, 9, 12):
        # Another seed each time: nothing may depend on how the process began.
        killed = start(program, tmp_path / "killed", 1 if at == 4 else at)
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith("resumed"):
                resumed.append(line.split()[1])
            if line == f"saving {at}\n":
                break
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        killed.stdout.close()
    ended = start(program, tmp_path / "killed", 99).communicate()[0]
    assert ended.splitlines()[-1] == expected
    assert resumed[0] == "None" and "None" not in resumed[1:], resumed
    assert milepost.open(tmp_path / "killed").verify(read_data=True)


def test_random_state_of_all_three(store: milepost.Store) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]

    state = milepost.RandomState()
    store.save(1, state)
    first = draw()
    store.load_into(state)
    assert draw() == first


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_in_the_middle_of_an_epoch(workers: int) -> None:
    def make() -> milepost.ResumableLoader:
        return milepost.ResumableLoader(
            list(range(10)), batch_size=3, seed=7, num_workers=workers, collate_fn=tuple
        )

    whole = make()
    epochs = [list(whole) for _ in range(3)]
    assert len(whole) == 4 and sorted(sum(epochs[0], ())) == list(range(10))
    assert epochs[0] != epochs[1]
    broken = make()
    taken = [next(iter(broken))]
    rest = make()
    rest.load_state_dict(broken.state_dict())
    assert taken + list(rest) == epochs[0] and list(rest) == epochs[1]


def test_the_parts_of_a_training(store: milepost.Store) -> None:
    training = milepost.Training(epoch=1, weights=np.arange(3.0))
    training.epoch += 1
    with pytest.raises(AttributeError):
        training.other = 1
    with pytest.raises(AttributeError):
        print(training.other)
    assert training.resume(store) is None
    training.save(store, 5)
    again = milepost.Training(epoch=0, weights=np.zeros(3))
    report = again.resume(store)
    assert report is not None and report.step == 5
    assert again.epoch == 2 and again.weights.tolist() == [0, 1, 2]
    with pytest.raises(milepost.MismatchError):
        milepost.Training(epoch=0).resume(store)
    with pytest.raises(milepost.NotFoundError):
        again.resume(store, "nope")


def test_resume_refuses_at_once_what_could_not_be_saved(tmp_path: Path) -> None:
    with pytest.raises(milepost.UnsupportedTypeError, match="hook"):
        milepost.resume(tmp_path / "s", hook=lambda: 1)
    model = torch.nn.Linear(2, 2)
    with milepost.resume(tmp_path / "s", model=model) as run:
        run.save(0)
    with pytest.raises(milepost.MismatchError):
        milepost.resume(tmp_path / "s", model=model, epoch=3)
    with milepost.resume(tmp_path / "s", strict=False, model=model, epoch=3) as run:
        assert run.start == 1 and run.training.epoch == 3
