"""torch.distributed.checkpoint: one, two and four processes, and loads on other numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import milepost
from milepost.dcp import Reader, Writer, prune
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


def ranks(tmp_path: Path, world: int, mode: str) -> None:
    program = tmp_path / "rank.py"
    program.write_text(RANK)
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
    assert not [b for s in store.log() for b in store[s.id].blobs if b != "milepost.tree"]


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
    assert len(store.log("main.part0")) == 2
    assert same(load(store), state(1.0))
    # The same step can be saved again, and what was left behind cleared away.
    dcp.save(state(3.0), storage_writer=Writer(store, 2))
    assert prune(store) == 1 and prune(store) == 0
    assert same(load(store, 2), state(3.0)) and same(load(store, 1), state(1.0))


def test_a_checkpoint_that_lacks_a_part_is_passed_over(
    store: milepost.Store, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        dcp.save(state(float(step)), storage_writer=Writer(store, step))
    store.forget(store.log("main.part0")[-1].id)
    assert same(load(store), state(1.0)) and "lacks its part" in caplog.text
    with pytest.raises(CheckpointException, match="lacks its part"):
        load(store, 2)


def test_keep_rules_take_the_parts_along(store: milepost.Store) -> None:
    for step in range(5):
        keep = milepost.Keep(last=2)
        dcp.save(state(float(step)), storage_writer=Writer(store, step, keep=keep))
    assert [s.step for s in store.log("main")] == [3, 4] and len(store.log("main.part0")) == 2
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
