"""torch.distributed.checkpoint: one, two and four processes, and loads on other numbers."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import milepost
from milepost.dcp import Reader, Writer
from same import same

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

RANK = """
import sys
import torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
import milepost
from milepost.dcp import Reader, Writer

folder, meet, rank, world, mode = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world)
mesh = init_device_mesh("cpu", (world,))

def state(step):
    rows = torch.arange(70.0).reshape(10, 7) + step
    return {
        "rows": distribute_tensor(rows, mesh, [Shard(0)]),
        "columns": distribute_tensor(rows.bfloat16(), mesh, [Shard(1)]),
        "whole": distribute_tensor(rows * 2, mesh, [Replicate()]),
        "plain": torch.full((3,), float(step)),
        "nested": {"step": step, "names": ["a", "b"], "pair": (1, None)},
    }

def full(tree):
    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in tree.items()}

def check(reader, step):
    target = state(-1)
    dcp.load(target, storage_reader=reader)
    found, expected = full(target), full(state(step))
    for name in ("rows", "columns", "whole", "plain"):
        assert torch.equal(found[name], expected[name]), name
    assert found["nested"] == expected["nested"], found["nested"]

with milepost.open(folder) as store:
    if mode == "save":
        dcp.save(state(10), storage_writer=Writer(store, 10, tags=["first"]))
        dcp.save(state(20), storage_writer=Writer(store, 20, metrics={"loss": 0.5}))
        check(Reader(store), 20)
    elif mode == "async":
        tree = state(30)
        future = dcp.async_save(tree, storage_writer=Writer(store, 30))
        tree["plain"].zero_()
        future.result()
    elif mode == "fail":
        writer = Writer(store, 40)
        if rank == world - 1:
            def fail(plan, planner):
                raise OSError("no more disk")
            writer.write_data = fail
        try:
            dcp.save(state(40), storage_writer=writer)
        except dcp.api.CheckpointException as error:
            assert "no more disk" in str(error)
        else:
            raise AssertionError("the failure of one rank was not told")
        check(Reader(store), 20)
    else:
        step = None if mode == "load" else int(mode)
        check(Reader(store, step), step or 20)
    dist.barrier()
dist.destroy_process_group()
print("fine", flush=True)
"""


def ranks(tmp_path: Path, world: int, mode: str, text: str = RANK) -> None:
    program = tmp_path / "rank.py"
    program.write_text(text)
    meet = tmp_path / f"meet-{world}-{mode}"
    meet.unlink(missing_ok=True)
    command = [sys.executable, str(program), str(tmp_path / "s"), str(meet)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(world), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**__import__("os").environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world)
    ]
    ended = [process.communicate(timeout=150) for process in started]
    assert all(out.endswith("fine\n") for out, _ in ended), "\n".join(err for _, err in ended)


def test_two_and_four_processes_and_loads_on_other_numbers(tmp_path: Path) -> None:
    ranks(tmp_path, 2, "save")
    for world in (1, 4):
        ranks(tmp_path, world, "load")
    ranks(tmp_path, 2, "fail")
    ranks(tmp_path, 4, "async")
    ranks(tmp_path, 2, "30")
    store = milepost.open(tmp_path / "s")
    assert [s.step for s in store.log("main")] == [10, 20, 30] and store["first"].step == 10
    assert store.verify(read_data=True)
    assert store.runs == ["main"], "one checkpoint a save, whatever the number of ranks"
    blobs = set(store["first"].blobs)
    assert blobs == {"milepost.tree", "milepost.tree.0", "milepost.tree.1"}
    # What ranks held while they saved is let go by now.
    assert milepost.open(tmp_path / "s", lock_timeout=0).gc().removed_packs <= 1


SHARDED = """
import sys
import torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
import milepost
from milepost.dcp import Reader, Writer

folder, meet, rank, world, mode = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world)
mesh = init_device_mesh("cpu", (world,))

def make(seed):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(10, 13), torch.nn.Tanh(), torch.nn.Linear(13, 6)
    model = torch.nn.Sequential(*layers)
    for layer in (layers[0], layers[2], model):
        fully_shard(layer, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)

def train(model, optimizer, steps):
    for step in steps:
        inputs = torch.randn(5, 10, generator=torch.Generator().manual_seed(step * world + rank))
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

def tree(model, optimizer):
    return dict(zip(("model", "optim"), get_state_dict(model, optimizer), strict=True))

def full(value):
    if isinstance(value, dict):
        return {key: full(held) for key, held in value.items()}
    return value.full_tensor() if isinstance(value, DTensor) else value

def alike(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other

with milepost.open(folder) as store:
    if mode == "save":
        whole = make(0)
        train(*whole, range(2))
        dcp.save(tree(*whole), storage_writer=Writer(store, 2))
        saved = full(tree(*whole))
        if rank == 0:
            torch.save(saved, folder + ".pt")
        train(*whole, range(2, 4))
    resumed = make(1)
    train(*resumed, range(1))  # so that the optimizer has a state to load into
    target = tree(*resumed)
    dcp.load(target, storage_reader=Reader(store))
    set_state_dict(*resumed, model_state_dict=target["model"], optim_state_dict=target["optim"])
    found = full(tree(*resumed))
    assert alike(found, torch.load(folder + ".pt", weights_only=True)), "another state came back"
    if mode == "save":
        train(*resumed, range(2, 4))
        assert alike(full(tree(*resumed)), full(tree(*whole))), "it goes on otherwise"
    dist.barrier()
dist.destroy_process_group()
print("fine", flush=True)
"""


def test_a_fully_sharded_training_goes_on_and_loads_on_other_numbers(tmp_path: Path) -> None:
    ranks(tmp_path, 2, "save", SHARDED)
    for world in (1, 4):
        ranks(tmp_path, world, "load", SHARDED)


def state(value: float) -> dict[str, object]:
    return {"w": torch.full((100, 3), value), "n": 5, "o": {"lr": 0.1, "list": [torch.ones(2)]}}


def load(store: milepost.Store, revision: int | str | None = None) -> dict[str, object]:
    target = state(0.0)
    dcp.load(target, storage_reader=Reader(store, revision))
    return target


def test_one_process_without_a_group(store: milepost.Store) -> None:
    dcp.save(state(1.5), storage_writer=Writer(store, 1))
    dcp.save(state(2.5), storage_writer=Writer(store, 2))
    assert same(load(store), state(2.5)) and same(load(store, 1), state(1.5))
    store.save(9, {})
    with pytest.raises(CheckpointException, match="no distributed checkpoint"):
        dcp.load(state(0.0), storage_reader=Reader(store, 9))


def test_a_model_and_its_optimizer(store: milepost.Store) -> None:
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Linear(6, 3)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(4, 6)).sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = make()
    told = dict(zip(("model", "optim"), get_state_dict(model, optimizer), strict=True))
    dcp.save(told, storage_writer=Writer(store, 1))
    other, its = make()
    target = dict(zip(("model", "optim"), get_state_dict(other, its), strict=True))
    dcp.load(target, storage_reader=Reader(store))
    set_state_dict(other, its, model_state_dict=target["model"], optim_state_dict=target["optim"])
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(its.state_dict()["state"], optimizer.state_dict()["state"])


def test_a_save_that_was_cut_short_is_never_loaded(store: milepost.Store) -> None:
    dcp.save(state(1.0), storage_writer=Writer(store, 1))
    writer = Writer(store, 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    writer.finish = killed  # type: ignore[method-assign]
    with pytest.raises(BaseException):  # noqa: B017
        dcp.save(state(2.0), storage_writer=writer)
    assert [s.step for s in store.log()] == [1]
    assert same(load(store), state(1.0))
    # The same step can be saved again, and what was left behind is collected.
    dcp.save(state(3.0), storage_writer=Writer(store, 2))
    assert same(load(store, 2), state(3.0)) and same(load(store, 1), state(1.0))
    del writer
    gc.collect()
    assert store.gc().removed_packs == 1 and store.verify(read_data=True)


def test_a_writer_that_is_kept_keeps_nothing_else(tmp_path: Path) -> None:
    store = milepost.open(tmp_path / "s", lock_timeout=0)
    writer = Writer(store, 1)
    dcp.save(state(1.0), storage_writer=writer)
    assert store.gc().removed_packs == 0, "a collector need not wait for the writer to go"
    assert writer.storage_meta().checkpoint_id is not None


def test_room_is_made_before_ranks_wait_for_each_other(tmp_path: Path) -> None:
    def big(step: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        return {"w": torch.randn(300_000, generator=generator)}

    keep = milepost.Keep(last=1)
    store = milepost.open(tmp_path / "s", quota=4 << 20, keep=keep)
    for step in range(8):
        dcp.save(big(step), storage_writer=Writer(store, step))
    assert store.disk_usage()["total_bytes"] <= 4 << 20
    target = {"w": torch.zeros(300_000)}
    dcp.load(target, storage_reader=Reader(store))
    assert same(target, big(7))
    with pytest.raises(CheckpointException, match="quota"):
        dcp.save({"w": torch.randn(2_000_000)}, storage_writer=Writer(store, 9))
    assert store["latest"].step == 7


def test_what_ranks_hold_of_one_name_must_be_alike(store: milepost.Store) -> None:
    """Torch saves replicated tensors once; a planner that does not is held to its word."""
    from milepost import tree

    def part(index: int, value: float) -> bytes:
        encoded = tree.encode({"w": torch.full((9,), value)})
        request = store.request(
            encoded, "main", step=1, durability="durable", document=f"milepost.tree.{index}"
        )
        return store.save_part(encoded, request, index, 2).told()

    with pytest.raises(milepost.InvalidInputError, match="another tensor of one name"):
        store.save(1, {}, parts=[part(0, 1.0), part(1, 2.0)])
    store.save(1, {}, parts=[part(0, 1.0), part(1, 1.0)])
    assert store["latest"].keys() == {"w"}


def test_keep_rules_are_the_coordinators(store: milepost.Store) -> None:
    for step in range(5):
        keep = milepost.Keep(last=2)
        dcp.save(state(float(step)), storage_writer=Writer(store, step, keep=keep))
    assert [s.step for s in store.log()] == [3, 4]
    assert same(load(store), state(4.0))


def test_what_cannot_be_stored_names_its_path_and_nothing_is_committed(
    store: milepost.Store,
) -> None:
    with pytest.raises(CheckpointException, match="deep is a builtins"):
        dcp.save({"bad": {"deep": object()}}, storage_writer=Writer(store, 1))
    assert store.runs == []


def test_a_save_without_collectives_is_refused(store: milepost.Store) -> None:
    with pytest.raises(milepost.InvalidInputError, match="without collectives"):
        dcp.save(state(1.0), storage_writer=Writer(store, 1), use_collectives=False)
