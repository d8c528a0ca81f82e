"""A plain loop, with all that random numbers touch; saved in the background."""

from __future__ import annotations

from pathlib import Path

import torch

import milepost
from common import digest, tell


def train(folder: Path, steps: int) -> str:
    """Saves every second step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 512), torch.nn.Dropout(0.3), torch.nn.Linear(512, 256)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=100)
    average = torch.optim.swa_utils.AveragedModel(model)
    rows = torch.arange(640.0).reshape(10, 64) / 640
    loader = milepost.ResumableLoader(torch.utils.data.TensorDataset(rows), batch_size=3, seed=5)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "average": average}
    with milepost.resume(folder / "store", loader=loader, **parts) as run:
        tell(run.found.step if run.found else None)
        step = run.start
        while step < steps:
            for (batch,) in loader:
                loss = (model(batch * torch.rand(1)) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                average.update_parameters(model)
                if step % 2 == 1:
                    run.save(step, wait=False)
                step += 1
                if step == steps:
                    break
    states = [part.state_dict() for part in parts.values()]
    return digest([*states, torch.get_rng_state()])
