"""A convolutional net with SGD momentum, BatchNorm, an average of its weights and an fp16 copy.

Trained on the 1,797 digits of 8 x 8 pixels that scikit-learn ships, moved about by a pixel. Names:
`model.*` (parameters and BatchNorm's buffers), `optimizer.state.<parameter>.momentum_buffer`,
`ema_model.module.*` (decay 0.999, as torch.optim.swa_utils names it), and `half.*` (fp16).

    python benches/workloads/ema.py --out DIR
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training import make_unless_complete, optimizer_state_of, save, start

RATE = 0.05
DECAY = 0.999
CHANNELS = (64, 128, 256, 512)


def make_net() -> nn.Sequential:
    """Two convolutions for each width, halving the picture between widths, then one layer."""
    layers: list[nn.Module] = []
    before = 1
    for channels in CHANNELS:
        for inputs in (before, channels):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        layers.append(nn.AvgPool2d(2) if channels != CHANNELS[-1] else nn.AdaptiveAvgPool2d(1))
        before = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before, 10))


def moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The pictures, each batch shifted by at most a pixel, with a little noise."""
    down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
    noise = torch.randn(images.shape, generator=generator) * 0.05
    return images.roll((down, right), (2, 3)) + noise


def run(args: argparse.Namespace) -> None:
    """Trains and saves states, some steps apart."""
    generator = start()
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    net = make_net()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    last = args.skipped + args.every * (args.states - 1)
    for step in range(1, last + 1):
        drawn = torch.randint(len(images), (args.batch,), generator=generator)
        loss = functional.cross_entropy(net(moved(images[drawn], generator)), labels[drawn])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(net)
        if step >= args.skipped and (step - args.skipped) % args.every == 0:
            tensors = {f"model.{n}": t for n, t in net.state_dict().items()}
            tensors |= {f"ema_model.{n}": t for n, t in average.state_dict().items()}
            tensors |= {f"half.{n}": p.half() for n, p in net.named_parameters()}
            tensors |= optimizer_state_of(dict(net.named_parameters()), optimizer)
            save(args.out, step, float(loss.detach()), tensors)


if __name__ == "__main__":
    make_unless_complete(
        __doc__,
        run,
        {"states": 8, "every": 10, "skipped": 60, "batch": 32},
        {"rate": RATE, "decay": DECAY, "channels": list(CHANNELS)},
    )
