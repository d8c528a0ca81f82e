"""The safetensors drop-in, beside the real package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

import milepost
from milepost.safetensors import export, load_file, safe_open, save_file
from same import same


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "w": torch.randn(20, 30),
        "b": torch.randn(7).bfloat16(),
        "f8": torch.randn(6).to(torch.float8_e4m3fn),
        "i": torch.arange(5),
        "flag": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
    }


def test_save_and_load_as_with_files(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    save_file(tensors(), store, metadata={"format": "pt"})
    assert same(dict(sorted(load_file(store).items())), dict(sorted(tensors().items())))
    with safe_open(store, framework="pt") as opened:
        assert sorted(opened.keys()) == sorted(tensors()) == sorted(opened.offset_keys())
        assert opened.metadata() == {"format": "pt"}
        part = opened.get_slice("w")
        assert part.get_shape() == [20, 30] and part.get_dtype() == "F32"
        assert torch.equal(part[2:5, :3], tensors()["w"][2:5, :3])
        with pytest.raises(KeyError):
            opened.get_tensor("nope")
    with safe_open(store, "np") as opened:
        assert np.array_equal(opened.get_tensor("w"), tensors()["w"].numpy())


def test_what_the_package_refuses_works(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    state = {"a": weight, "b": weight, "t": weight.t()}
    with pytest.raises((RuntimeError, ValueError)):
        safetensors.torch.save_file(state, tmp_path / "x")
    save_file(state, tmp_path / "s")
    assert torch.equal(load_file(tmp_path / "s")["t"], weight.t())


def test_names_with_revisions(tmp_path: Path) -> None:
    for step in (100, 200):
        save_file({"w": torch.full((2,), step)}, f"{tmp_path}/s@step:{step}")
    save_file({"w": torch.zeros(2)}, f"{tmp_path}/s@other@step:7")
    assert load_file(f"{tmp_path}/s@step:100")["w"].tolist() == [100, 100]
    assert load_file(f"{tmp_path}/s@main@latest")["w"].tolist() == [200, 200]
    assert milepost.open(tmp_path / "s")["other"].step == 7
    with pytest.raises(milepost.InvalidInputError):
        save_file({}, f"{tmp_path}/s@latest~1")


def test_files_are_read_as_files(tmp_path: Path) -> None:
    safetensors.torch.save_file(tensors(), tmp_path / "x.safetensors", {"k": "v"})
    assert same(load_file(tmp_path / "x.safetensors")["w"], tensors()["w"])
    with safe_open(tmp_path / "x.safetensors") as opened:
        assert opened.metadata() == {"k": "v"}
    with pytest.raises(milepost.InvalidInputError):
        save_file(tensors(), tmp_path / "x.safetensors")


def test_an_export_is_read_by_the_package_and_a_saved_file_comes_back(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "s", {"k": "v"})
    export(milepost.open(tmp_path / "s")["latest"], tmp_path / "out.safetensors")
    assert same(safetensors.torch.load_file(tmp_path / "out.safetensors")["f8"], tensors()["f8"])
    found = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert same(dict(sorted(found.items())), dict(sorted(tensors().items())))
    safetensors.torch.save_file(tensors(), tmp_path / "in.safetensors", {"a": "b"})
    command = [sys.executable, "-m", "milepost", "-s", str(tmp_path / "s"), "save", "--run", "cli"]
    subprocess.run([*command, "in.safetensors"], check=True, cwd=tmp_path)
    saved = milepost.open(tmp_path / "s")["cli"]
    assert same(saved.load()["w"], tensors()["w"])
    export(saved, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == (
        tmp_path / "in.safetensors"
    ).read_bytes()
    assert not list(tmp_path.glob(".milepost-*"))


def test_frameworks_that_are_none_and_stores_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(milepost.InvalidInputError):
        safe_open(tmp_path, framework="caffe")
    with pytest.raises(milepost.NotFoundError):
        load_file(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_tied_tensors_keep_every_name_and_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    """They were stored once and came back under one of their names only."""
    weight = torch.randn(4, 3)
    saved = {"emb": weight, "head": weight, "view": weight[:2], "other": torch.ones(2)}
    where = tmp_path / "s"
    save_file(saved, where)
    assert same(load_file(where), dict(sorted(saved.items())))
    with safe_open(where, "pt") as opened:
        assert opened.keys() == sorted(saved)
        assert torch.equal(opened.get_slice("head")[1:3], weight[1:3])
    with milepost.open(where) as store:
        assert store["latest"].tied == {"head": "emb"}
        store.save(7, {"net": {"a": weight, "b": [1, weight]}})
        assert torch.equal(store[7]["net.b.1"].torch(), weight)
        export(store[7], tmp_path / "x.safetensors")
    assert same(
        safetensors.torch.load_file(tmp_path / "x.safetensors"),
        {"net.a": weight, "net.b.1": weight},
    )
    with pytest.raises(milepost.UnsupportedTypeError, match="'x' is a int"):
        save_file({"w": weight, "x": 5}, where)
