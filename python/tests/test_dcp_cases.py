"""What torch.distributed.checkpoint does with a storage, case by case.

Most cases are run on torch's own files as well: what it does there is what it must do here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    _EmptyStateDictLoadPlanner,
)
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter

import milepost
from milepost.dcp import Reader, Writer
from same import same

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Stateful:
    """An object that torch asks for its state and gives it back to."""

    def __init__(self, value: float) -> None:
        self.weights, self.count = torch.full((4,), float(value)), int(value)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.count = state["weights"], state["count"]


Storage = milepost.Store | Path


@pytest.fixture(params=["milepost", "files"])
def storage(request: pytest.FixtureRequest, store: milepost.Store, tmp_path: Path) -> Storage:
    return store if request.param == "milepost" else tmp_path / "files"


def writer(storage: Storage, step: int = 1) -> StorageWriter:
    if isinstance(storage, milepost.Store):
        return Writer(storage, step)
    return FileSystemWriter(storage / str(step))


def reader(storage: Storage, step: int = 1) -> StorageReader:
    if isinstance(storage, milepost.Store):
        return Reader(storage, step)
    return FileSystemReader(storage / str(step))


def save(storage: Storage, state: dict[str, Any], step: int = 1, **options: Any) -> None:
    dcp.save(state, storage_writer=writer(storage, step), **options)


def load(storage: Storage, target: dict[str, Any], step: int = 1, **options: Any) -> dict[str, Any]:
    dcp.load(target, storage_reader=reader(storage, step), **options)
    return target


def test_every_kind_of_tensor_comes_back(storage: Storage) -> None:
    base = torch.arange(48.0).reshape(6, 8)
    state = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 5),
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "complex": torch.complex(base, -base),
        "bool": base > 20,
        "bytes": base.to(torch.uint8),
        "long": base.long(),
        "turned": base.t(),
        "cut": base[1:4, ::2],
        "parameter": torch.nn.Parameter(base.clone()),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }
    save(storage, state)
    target = {name: torch.zeros_like(value) for name, value in state.items()}
    load(storage, target)
    for name, value in state.items():
        expected = value.detach()
        assert target[name].dtype == expected.dtype and target[name].shape == expected.shape
        assert same(target[name].detach().contiguous(), expected.contiguous()), name


def test_objects_and_values_come_back_through_their_own_methods(storage: Storage) -> None:
    values = {"text": "x", "none": None, "pair": (1, 2.5), "bytes": b"\0\xff", "deep": [{"a": 1}]}
    save(storage, {"object": Stateful(7), "values": values, "n": 3})
    empty = {**dict.fromkeys(values), "pair": (0, 0.0), "deep": [{"a": 0}]}
    target = {"object": Stateful(0), "values": empty, "n": 0}
    load(storage, target)
    assert target["object"].count == 7 and same(target["object"].weights, torch.full((4,), 7.0))
    assert target["n"] == 3 and target["values"]["bytes"] == b"\0\xff"
    assert target["values"]["pair"] == (1, 2.5) and target["values"]["deep"] == [{"a": 1}]


def test_a_part_of_what_was_saved_can_be_loaded(storage: Storage) -> None:
    save(storage, {"a": torch.ones(3), "b": {"c": torch.ones(2) * 2, "d": 5}})
    assert same(load(storage, {"b": {"c": torch.zeros(2)}}), {"b": {"c": torch.ones(2) * 2}})


def test_what_was_not_saved_is_missed_unless_partial_loads_are_allowed(
    storage: Storage,
) -> None:
    save(storage, {"a": torch.ones(3)})
    target = {"a": torch.zeros(3), "new": torch.full((2,), 9.0)}
    with pytest.raises(CheckpointException, match=r"Missing key.*new"):
        load(storage, dict(target))
    load(storage, target, planner=DefaultLoadPlanner(allow_partial_load=True))
    assert same(target, {"a": torch.ones(3), "new": torch.full((2,), 9.0)})


def test_another_size_is_refused(storage: Storage) -> None:
    save(storage, {"a": torch.ones(3)})
    with pytest.raises(CheckpointException, match=r"[Ss]ize mismatch"):
        load(storage, {"a": torch.zeros(4)})


def test_values_are_cast_into_the_target_as_torch_does(storage: Storage) -> None:
    save(storage, {"a": torch.arange(5.0)})
    assert same(load(storage, {"a": torch.zeros(5).double()})["a"], torch.arange(5.0).double())


def test_states_that_are_not_flattened(storage: Storage) -> None:
    state = {"a": torch.ones(3), "b": {"n": 1, "t": torch.ones(2)}}
    save(storage, state, planner=DefaultSavePlanner(flatten_state_dict=False))
    target = {"a": torch.zeros(3), "b": {}}
    load(storage, target, planner=DefaultLoadPlanner(flatten_state_dict=False))
    # Torch gives back tensors only then.
    assert same(target, {"a": torch.ones(3), "b": {}})


def test_plans_that_torch_keeps_from_save_to_save(storage: Storage) -> None:
    # It keeps them by the name of the planner's class, whatever the storage.
    class_ = type(f"Planner{type(storage).__name__}", (DefaultSavePlanner,), {})
    for step in range(4):
        planner = class_(enable_plan_caching=True)
        save(storage, {"a": torch.full((6,), float(step)), "n": step}, step, planner=planner)
    for step in range(4):
        target = {"a": torch.zeros(6), "n": -1}
        dcp.load(target, storage_reader=reader(storage, step))
        assert same(target, {"a": torch.full((6,), float(step)), "n": step})


def test_the_metadata_tells_what_there_is(storage: Storage) -> None:
    save(storage, {"a": torch.ones(3, 2, dtype=torch.bfloat16), "n": 1})
    metadata = reader(storage).read_metadata()
    tensor = metadata.state_dict_metadata["a"]
    assert isinstance(tensor, TensorStorageMetadata) and tensor.size == torch.Size([3, 2])
    assert tensor.properties.dtype is torch.bfloat16
    assert isinstance(metadata.state_dict_metadata["n"], BytesStorageMetadata)


def test_everything_without_a_target_as_converters_load(storage: Storage) -> None:
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    state = {"a": torch.arange(4.0), "b": {"c": torch.ones(2), "n": 4}}
    save(storage, state)
    found: dict[str, Any] = {}
    _load_state_dict(
        found, storage_reader=reader(storage), planner=_EmptyStateDictLoadPlanner(), no_dist=True
    )
    assert same(found, state)


def test_a_save_in_the_background_saves_what_was_there(storage: Storage) -> None:
    state = {"a": torch.ones(1000), "n": 1}
    future = dcp.async_save(state, storage_writer=writer(storage))
    state["a"].zero_()
    future.result()
    assert same(load(storage, {"a": torch.zeros(1000)})["a"], torch.ones(1000))


def test_a_failure_in_the_background_is_the_futures(store: milepost.Store) -> None:
    save(store, {"a": torch.ones(3)})
    future = dcp.async_save({"a": torch.zeros(3)}, storage_writer=Writer(store, 1))
    with pytest.raises(CheckpointException, match="another checkpoint of step 1"):
        future.result()
    assert same(load(store, {"a": torch.zeros(3)})["a"], torch.ones(3))


def test_the_same_state_again_is_no_conflict(store: milepost.Store) -> None:
    for _ in range(2):
        save(store, {"a": torch.ones(3)})
    assert len(store.log()) == 1


def test_a_store_that_can_only_be_read(store: milepost.Store) -> None:
    save(store, {"a": torch.ones(3)})
    with milepost.open(store.path, mode="r") as reading:
        assert same(load(reading, {"a": torch.zeros(3)})["a"], torch.ones(3))
