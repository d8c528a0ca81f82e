"""What other savers wrote comes into a store, and out of it as it was."""

from __future__ import annotations

import collections
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import milepost
from milepost import convert
from same import same


def state(step: int) -> dict[str, object]:
    torch.manual_seed(1)
    model = torch.nn.Linear(30, 7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(step):
        optimizer.zero_grad()
        model(torch.ones(4, 30)).square().sum().backward()
        optimizer.step()
    weights = collections.OrderedDict(model.state_dict())
    return {"model": weights, "optim": optimizer.state_dict(), "step": step, "lr": 0.01}


def test_files_of_torch_come_in_by_the_steps_in_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 9, 2):
        torch.save(state(step), tmp_path / f"run3-step{step}.pt")
    torch.save(state(1), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    files = [str(p) for p in tmp_path.glob("*.pt")]
    assert convert.main([str(tmp_path / "store"), *files, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # What has no number comes last.
    assert [t["step"] for t in told] == [2, 9, 10, 11]
    store = milepost.open(tmp_path / "store")
    for step, of in ((2, 2), (9, 9), (10, 10), (11, 1)):
        assert same(store[step].load(), state(of))
    # Once more changes nothing.
    assert convert.import_into(store, tmp_path / "run3-step9.pt").existed
    assert store["step:10"].metadata["imported"] == "run3-step10.pt"


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run!",)


def test_what_is_more_than_data_is_refused_and_the_rest_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": Hostile()}, tmp_path / "bad-1.pt")
    np.savez(tmp_path / "bad-2.npz", a=np.array([Hostile()], dtype=object))
    (tmp_path / "bad-3.txt").write_text("text")
    (tmp_path / "bad-4.safetensors").write_bytes(b"\0" * 20)
    (tmp_path / "bad-5.pt").write_bytes(b"no archive")
    torch.save(state(1), tmp_path / "bad-8.pt")
    np.savez(tmp_path / "bad-9.npz", a=np.arange(900.0))
    for cut in ("bad-8.pt", "bad-9.npz"):
        whole = (tmp_path / cut).read_bytes()
        (tmp_path / cut).write_bytes(whole[: len(whole) // 2])
    for empty in ("bad-10.pt", "bad-11.npz", "bad-12.safetensors"):
        (tmp_path / empty).touch()
    (tmp_path / "bad-13.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    np.savez(tmp_path / "good-6.npz", a=np.arange(9.0), b=np.float16([1, 2]))
    sources = [str(p) for p in tmp_path.iterdir()]
    sources.append(str(tmp_path / "none-7.pt"))
    assert convert.main([str(tmp_path / "store"), *sources]) == 1
    told = capsys.readouterr()
    assert "run!" not in told.out and told.err.count("error: ") == 12, told.err
    assert "good-6.npz: step 6 of run main" in told.out
    store = milepost.open(tmp_path / "store")
    assert [s.step for s in store.log()] == [6]
    assert same(store[6].load(), {"a": np.arange(9.0), "b": np.float16([1, 2])})


def test_folders_come_in(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from safetensors.numpy import save_file

    weights = {"w": torch.arange(12.0).reshape(3, 4), "n": {"b": torch.ones(2, dtype=torch.int8)}}
    dcp.save({**weights, "step": 7}, checkpoint_id=tmp_path / "dcp-7", no_dist=True)
    with pytest.raises(milepost.InvalidInputError, match="pickle"):
        convert.read(tmp_path / "dcp-7")
    store = milepost.open(tmp_path / "store")
    convert.import_into(store, tmp_path / "dcp-7", trusted=True)
    assert same(store[7].load(), {**weights, "step": 7})

    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    save_file({"w": np.arange(6, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    report = convert.import_into(store, folder, run="hf")
    assert (report.run, report.step) == ("hf", 500)
    assert "config.json" in store["hf"].load()["files"]
    convert.import_into(store, folder / "model.safetensors", run="one", step=3)
    assert store["one"].load()["w"].tolist() == list(range(6))


def test_a_folder_of_checkpoints_is_taken_file_by_file(tmp_path: Path) -> None:
    """It came in as one checkpoint of opaque files."""
    old = tmp_path / "old"
    old.mkdir()
    for step in (2, 10):
        torch.save(state(step), old / f"step-{step}.pt")
    assert convert.main([str(tmp_path / "s"), str(old)]) == 0
    store = milepost.open(tmp_path / "s")
    assert [s.step for s in store.log()] == [2, 10] and "model.weight" in store[10]
