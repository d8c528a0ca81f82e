"""Accelerate with milepost: run it again with more steps, and it goes on."""

import sys

import milepost.accelerate
import torch
from accelerate import Accelerator


def main(folder: str, steps: int) -> None:
    """Train a small network and save all that Accelerate has prepared now and then."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    with milepost.open(folder) as store:
        found = milepost.accelerate.load_state(accelerator, store)
        print("goes on" if found else "begins")
        for step in range(found.step + 1 if found else 0, steps):
            inputs = torch.randn(32, 16)
            loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            if step % 4 == 3:
                milepost.accelerate.save_state(accelerator, store, step)
    print(f"loss {loss.item():.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
