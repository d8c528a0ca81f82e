"""The Trainer of Hugging Face with milepost: run it again with more steps, and it goes on."""

import sys

import milepost.hf
import torch
import transformers


def main(folder: str, steps: int) -> None:
    """Train a tiny GPT-2; its checkpoint folders move into the store."""
    transformers.set_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    rows = [{"input_ids": torch.arange(i, i + 8) % 32} for i in range(24)]
    rows = [{**row, "labels": row["input_ids"]} for row in rows]
    arguments = transformers.TrainingArguments(
        output_dir=f"{folder}/out",
        max_steps=steps,
        save_steps=4,
        save_total_limit=2,
        per_device_train_batch_size=2,
        lr_scheduler_type="constant",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        callbacks=[milepost.hf.Checkpoints(f"{folder}/store", keep="store")],
    )
    newest = milepost.hf.restore(f"{folder}/store", arguments.output_dir)
    print("goes on" if newest else "begins")
    trainer.train(resume_from_checkpoint=newest)
    print(f"weights {model.transformer.wte.weight.sum().item():.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
