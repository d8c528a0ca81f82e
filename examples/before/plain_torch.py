"""A plain training loop, as it is before it uses milepost."""

import sys

import torch


def main(folder: str, steps: int) -> None:
    """Train a small network and save it now and then."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        inputs = torch.randn(32, 16)
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            torch.save([model.state_dict(), optimizer.state_dict()], f"{folder}-{step}.pt")
    print(f"loss {loss.item():.6f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
