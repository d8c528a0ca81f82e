"""Lightning's Trainer, saving in the background of AsyncCheckpointIO, also in mid-epoch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

import milepost
import milepost.lightning
from common import digest, tell

warnings.simplefilter("ignore")


class Net(lightning.LightningModule):
    """Dropout draws random numbers; the schedule is stepped in the middle of epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, 512), torch.nn.Dropout(0.3), torch.nn.Linear(512, 256)
        )

    def training_step(self, batch: Any, _: int) -> Any:
        return self.layers(batch[0] * torch.rand(1)).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=100)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def train(folder: Path, steps: int) -> str:
    """Saves every second step; one checkpoint stays."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Net()
    rows = torch.arange(640.0).reshape(10, 64) / 640
    loader = milepost.ResumableLoader(torch.utils.data.TensorDataset(rows), batch_size=3, seed=5)
    last = folder / "files" / "last.ckpt"
    tell(0 if last.exists() else None)
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        plugins=[AsyncCheckpointIO(milepost.lightning.CheckpointIO(folder / "store"))],
        callbacks=[
            ModelCheckpoint(
                folder / "files",
                "last",
                every_n_train_steps=2,
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
            milepost.lightning.RandomGenerators(),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None)
    assert trainer.global_step == steps
    optimizer, schedule = trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler
    states = [part.state_dict() for part in (module, optimizer, schedule)]
    return digest([*states, torch.get_rng_state()])
