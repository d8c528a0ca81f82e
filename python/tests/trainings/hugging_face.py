"""The Trainer of Hugging Face; its folders go into the store in the background."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import transformers

import milepost.hf
from common import digest, tell

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()


def train(folder: Path, steps: int) -> str:
    """Saves every second step; the newest two checkpoints stay."""
    torch.set_num_threads(1)
    transformers.set_seed(0)
    config = transformers.GPT2Config(vocab_size=256, n_positions=8, n_embd=64, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    rows = [{"input_ids": torch.arange(i, i + 8) % 32} for i in range(11)]
    rows = [{**row, "labels": row["input_ids"]} for row in rows]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=steps,
        save_steps=2,
        save_total_limit=2,
        per_device_train_batch_size=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    checkpoints = milepost.hf.Checkpoints(folder / "store", keep="store", wait=False)
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, callbacks=[checkpoints]
    )
    newest = milepost.hf.restore(folder / "store", arguments.output_dir)
    tell(int(newest.rpartition("-")[2]) if newest else None)
    trainer.train(resume_from_checkpoint=newest)
    states = [model.state_dict(), trainer.optimizer.state_dict()]
    # Not the generators: a Trainer that finds nothing left to do does not set them.
    return digest([*states, trainer.lr_scheduler.state_dict()])
