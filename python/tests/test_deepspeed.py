"""DeepSpeed on two processors: every stage of ZeRO is saved, stopped, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import milepost

pytest.importorskip("deepspeed")

PROGRAM = """
import os, sys, hashlib, warnings
warnings.simplefilter("ignore")
folder, mode, rank, port = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                  MASTER_PORT=port, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
import torch, deepspeed
import torch.distributed as dist
import milepost, milepost.deepspeed
deepspeed.init_distributed("gloo", verbose=False)

def engine(stage, half):
    torch.manual_seed(0)
    layers = torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)
    model = torch.nn.Sequential(*layers)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": stage},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5}},
        "zero_allow_untested_optimizer": True,
        half: {"enabled": True},
    }
    made = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0]
    made.checkpoint_engine = milepost.deepspeed.CheckpointEngine(
        f"{folder}/store", run=f"stage{stage}", keep=milepost.Keep(last=2))
    return made

def steps(made, until, half):
    while made.global_steps < until:
        draws = torch.Generator().manual_seed(100 * made.global_steps + made.global_rank)
        inputs = torch.randn(4, 16, generator=draws)
        if half == "bf16":
            inputs = inputs.bfloat16()
        made.backward(made(inputs).float().square().mean())
        made.step()

def digest(made):
    found = hashlib.sha256()
    def add(value):
        if isinstance(value, dict):
            for held in value.values():
                add(held)
        elif isinstance(value, (list, tuple)):
            for held in value:
                add(held)
        elif isinstance(value, torch.Tensor):
            found.update(value.detach().float().numpy().tobytes())
    add(made.optimizer.state_dict())
    add(made.module_state_dict())
    return found.hexdigest()

for stage, half in ((0, "fp32_is_default"), (1, "bf16"), (2, "fp32_is_default"), (3, "bf16")):
    made, at = engine(stage, half), f"{folder}/at{stage}"
    if mode == "first":
        steps(made, 6, half)
        print(stage, digest(made))
        made = engine(stage, half)
        for until in (1, 2, 3):
            steps(made, until, half)
            assert made.save_checkpoint(at, client_state={"mine": until})
        made.save_checkpoint(at, tag="global_step3", client_state={"mine": 33})
    else:
        load_from = at
        if mode == "elsewhere":
            load_from = f"{folder}/other{stage}"
            if rank == "0":
                found = milepost.deepspeed.restore(
                    f"{folder}/store", load_from, run=f"stage{stage}")
                assert found == "global_step3", found
            dist.barrier()
        path, client = made.load_checkpoint(load_from)
        assert path is not None and client["mine"] == 33, client
        assert made.global_steps == 3
        steps(made, 6, half)
        print(stage, digest(made))

if mode == "elsewhere":
    # What one rank cannot save, none has saved.
    held = {"what": object()} if rank == "1" else {"fine": 1}
    made.checkpoint_engine.create(None)
    made.checkpoint_engine.save(held, f"{folder}/never/file{rank}")
    info = deepspeed.runtime.checkpoint_engine.CheckpointCommitInfo("never", folder, False)
    try:
        made.checkpoint_engine.commit(info)
    except milepost.Error as error:
        expected = milepost.UnsupportedTypeError if rank == "1" else milepost.StorageError
        assert type(error) is expected and "what" in str(error), error
    else:
        sys.exit("half a checkpoint was saved")
    assert not os.path.exists(f"{folder}/never/file0")
    # An export, as of save_16bit_model, lies in no tag's folder: it is refused in every rank.
    made.checkpoint_engine.create(info)
    if rank == "0":
        made.checkpoint_engine.save({"fine": 1}, f"{folder}/pytorch_model.bin")
    try:
        made.checkpoint_engine.commit(info)
    except milepost.InvalidInputError as error:
        assert error.code == "deepspeed-export", error
    else:
        sys.exit("an export was taken for a checkpoint")
    try:
        made.checkpoint_engine.load(f"{folder}/never/file0")
    except milepost.NotFoundError:
        pass
    else:
        sys.exit("what was not saved was loaded")
dist.barrier()
dist.destroy_process_group()
print("fine", flush=True)
"""


def ranks(tmp_path: Path, mode: str, port: int) -> list[list[str]]:
    program = tmp_path / "rank.py"
    program.write_text(PROGRAM)
    # DeepSpeed compiles its communication with the tools beside the interpreter.
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = [
        subprocess.Popen(
            [sys.executable, str(program), str(tmp_path), mode, str(rank), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": beside},
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=400) for process in started]
    assert all(out.endswith("fine\n") for out, _ in ended), "\n".join(e[-3000:] for _, e in ended)
    return [[line for line in out.splitlines() if line[:2] in SHOWN] for out, _ in ended]


SHOWN = ("0 ", "1 ", "2 ", "3 ")


def test_every_stage_goes_on_bit_for_bit_also_from_the_store_alone(tmp_path: Path) -> None:
    whole = ranks(tmp_path, "first", 29651)
    assert [len(told) for told in whole] == [4, 4]
    assert ranks(tmp_path, "second", 29652) == whole
    assert ranks(tmp_path, "elsewhere", 29653) == whole
    with milepost.open(tmp_path / "store") as store:
        for stage in range(4):
            # The tag that was saved twice names the second; `keep` let the others go.
            assert [s.step for s in store.log(f"stage{stage}")] == [4]
            found = store[f"stage{stage}@latest"]
            assert found.metadata["tag"] == "global_step3"
        assert store.verify(read_data=True)


@pytest.mark.parametrize("name", ["../out", "/out", ".", "at/../..", "two\nlines"])
def test_what_a_store_names_does_not_lead_out(tmp_path: Path, name: str) -> None:
    """A tag from a store was once written to `latest` as it was, for DeepSpeed to follow."""
    import milepost.deepspeed

    folder = tmp_path / "folder"
    folder.mkdir()
    for told in ({"tag": name, "files": {}}, {"tag": "step1", "files": {name: 0}}):
        with milepost.open(tmp_path / "store") as store:
            store.save(len(store.log()), {"deepspeed": told})
        with pytest.raises(milepost.CorruptionError, match="outside"):
            milepost.deepspeed.restore(tmp_path / "store", folder)
    assert not any(folder.iterdir()) and not (tmp_path / "out").exists()
