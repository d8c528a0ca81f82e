"""The Trainer of Hugging Face, as it is before it uses milepost."""

import sys

import torch
import transformers


def main(folder: str, steps: int) -> None:
    """Train a tiny GPT-2."""
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
    )
    trainer.train()
    print(f"weights {model.transformer.wte.weight.sum().item():.9f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
