"""DeepSpeed with the second stage of ZeRO, through its own calls to save and to load."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

# DeepSpeed compiles its communication with the tools beside the interpreter.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0"
os.environ["WORLD_SIZE"] = "1"

import deepspeed
import torch
import torch.distributed as dist

import milepost.deepspeed
from common import digest, tell

warnings.simplefilter("ignore")
CONFIG = {
    "train_micro_batch_size_per_gpu": 8,
    "zero_optimization": {"stage": 2},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5}},
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": True},
}


def train(folder: Path, steps: int) -> str:
    """Saves every second step, with the random generators as the client's state."""
    with tempfile.TemporaryDirectory() as place:
        init = f"file://{place}/meet"
        dist.init_process_group("gloo", init_method=init, rank=0, world_size=1)
        deepspeed.init_distributed("gloo", verbose=False)
        torch.manual_seed(0)
        layers = torch.nn.Linear(64, 512), torch.nn.Dropout(0.3), torch.nn.Linear(512, 4)
        model = torch.nn.Sequential(*layers)
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=model.parameters(), config=CONFIG
        )
        engine.checkpoint_engine = milepost.deepspeed.CheckpointEngine(folder / "store")
        path, client = engine.load_checkpoint(str(folder / "files"))
        if path is not None:
            torch.set_rng_state(client["random"])
        tell(None if path is None else engine.global_steps)
        while engine.global_steps < steps:
            inputs = torch.randn(8, 64).bfloat16()
            engine.backward(engine(inputs).float().square().mean())
            engine.step()
            if engine.global_steps % 2 == 0:
                random = {"random": torch.get_rng_state()}
                engine.save_checkpoint(str(folder / "files"), client_state=random)
        state = engine.optimizer.state_dict()
        return digest(
            {
                "master": state["single_partition_of_fp32_groups"],
                "moments": state["base_optimizer_state"]["state"],
                "model": {
                    name: value.float() for name, value in engine.module_state_dict().items()
                },
            }
        )
