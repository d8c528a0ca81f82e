"""DeepSpeed with milepost: run it again with more steps, and it goes on.

Here it is one process on a processor; started by `deepspeed` it is as many as there are devices.
"""

import os
import sys

import deepspeed
import milepost.deepspeed
import torch

CONFIG = {
    "train_micro_batch_size_per_gpu": 32,
    "zero_optimization": {"stage": 2},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": True},
}


def main(folder: str, steps: int) -> None:
    """Train a small network and save what the ranks hold now and then."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=CONFIG
    )
    engine.checkpoint_engine = milepost.deepspeed.CheckpointEngine(f"{folder}/store")
    path, client = engine.load_checkpoint(f"{folder}/checkpoints")
    if path is not None:
        torch.set_rng_state(client["random"])
    print("begins" if path is None else "goes on")
    while engine.global_steps < steps:
        inputs = torch.randn(32, 16, dtype=torch.bfloat16)
        loss = (engine(inputs) - inputs.sum(1, keepdim=True)).float().square().mean()
        engine.backward(loss)
        engine.step()
        if engine.global_steps % 4 == 0:
            client = {"random": torch.get_rng_state()}
            engine.save_checkpoint(f"{folder}/checkpoints", client_state=client)
    torch.distributed.destroy_process_group()
    print(f"loss {loss.item():.9f}")


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)
    main(sys.argv[1], int(sys.argv[2]))
