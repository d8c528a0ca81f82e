"""Accelerate: dropout, a schedule and shuffled batches, saved in the middle of epochs too."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import DataLoaderConfiguration

import milepost.accelerate
from common import digest, tell

warnings.simplefilter("ignore")
BATCHES = 8


def train(folder: Path, steps: int) -> str:
    """Saves every second step."""
    torch.manual_seed(0)
    order = DataLoaderConfiguration(use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=order)
    layers = torch.nn.Linear(64, 512), torch.nn.Dropout(), torch.nn.Linear(512, 1)
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.9)
    inputs = torch.randn(16 * BATCHES, 64, generator=torch.Generator().manual_seed(1))
    data = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))
    loader = torch.utils.data.DataLoader(
        data, batch_size=16, shuffle=True, generator=torch.Generator()
    )
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    with milepost.open(folder / "store") as store:
        found = milepost.accelerate.load_state(accelerator, store)
        done = 0 if found is None else found.step
        tell(done if done else None)
        while done < steps:
            loader.set_epoch(done // BATCHES)
            skipped = done % BATCHES
            for x, y in skip_first_batches(loader, skipped) if skipped else loader:
                optimizer.zero_grad()
                accelerator.backward(torch.nn.functional.mse_loss(model(x), y))
                optimizer.step()
                schedule.step()
                done += 1
                if done % 2 == 0:
                    milepost.accelerate.save_state(accelerator, store, done)
                if done == steps:
                    break
    weights = accelerator.unwrap_model(model).state_dict()
    return digest({"model": dict(weights), "optimizer": optimizer.state_dict()})
