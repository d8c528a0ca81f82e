"""Lightning, as it is before it uses milepost."""

import sys
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint


class Sum(lightning.LightningModule):
    """Learns to add its inputs up."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 1)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """The mean square of what it is wrong by."""
        inputs = batch[0]
        return (self.layer(inputs) - inputs.sum(1, keepdim=True)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def main(folder: str, steps: int) -> None:
    """Train; ModelCheckpoint says when to save and what stays."""
    torch.manual_seed(0)
    module = Sum()
    inputs = torch.randn(64, 16)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=[
            ModelCheckpoint(folder, "last", every_n_train_steps=4, save_on_train_epoch_end=False)
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs), batch_size=16)
    last = Path(folder) / "last.ckpt"
    print("goes on" if last.exists() else "begins")
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    print(f"weights {module.layer.weight.sum().item():.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
