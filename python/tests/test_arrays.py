"""Arrays of every dtype, layout and tie."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

import milepost
from milepost import _engine, dtypes
from same import same

TORCH = sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype)}, key=str)
NUMPY = [
    *("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"),
    *(">i4", ">f8", "g", "M8[s]", "m8[ns]", "S5", "U3", "V7"),
    [("a", "<f4"), ("b", "<i2", (2,))],
]


def filled(dtype: torch.dtype) -> torch.Tensor | None:
    """A tensor of random bytes, or None if torch can make none."""
    try:
        tensor = torch.empty((3, 5), dtype=dtype)
        size = tensor.untyped_storage().nbytes()
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
        whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        whole.copy_(raw)
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    return None if tensor.is_quantized else tensor


@pytest.mark.parametrize("dtype", TORCH, ids=str)
@pytest.mark.parametrize("wait", [True, False])
def test_torch_tensors_of_every_dtype(
    store: milepost.Store, dtype: torch.dtype, wait: bool
) -> None:
    tensor = filled(dtype)
    if tensor is None:
        pytest.skip("torch can make no such tensor")
    store.save(1, {"t": tensor}, wait=wait).result()
    assert same(store[1].load()["t"], tensor)
    if dtypes.of_torch(dtype) is not None:
        assert same(store[1]["t"][1:].torch(), tensor[1:])


@pytest.mark.parametrize("dtype", NUMPY, ids=str)
@pytest.mark.parametrize("wait", [True, False])
def test_numpy_arrays_of_every_dtype(store: milepost.Store, dtype: object, wait: bool) -> None:
    kind = np.dtype(dtype)  # type: ignore[call-overload]
    raw = np.random.default_rng(1).integers(0, 2, 12 * kind.itemsize, dtype=np.uint8)
    array = np.frombuffer(raw.tobytes(), dtype=kind).reshape(3, 4)
    store.save(1, {"a": array, "0d": array[0, 0:1].reshape(())}, wait=wait).result()
    found = store[1].load()
    assert found["a"].dtype == kind and found["a"].tobytes() == array.tobytes()
    assert found["0d"].shape == () and found["0d"].tobytes() == array[0, 0:1].tobytes()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_arrays_of_ml_dtypes(store: milepost.Store, name: str) -> None:
    array = np.arange(6).astype(getattr(ml_dtypes, name))
    store.save(1, {"a": array, "s": array[1]})
    found = store[1].load()
    assert same(found["a"], array) and same(found["s"], array[1])


def test_every_dtype_name_is_one_of_the_engine() -> None:
    assert set(dtypes.OF_TORCH.values()) <= {name for name, _ in _engine.dtypes()}


@pytest.mark.parametrize("wait", [True, False])
def test_tensors_that_are_not_contiguous(store: milepost.Store, wait: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "t": base.t(),
        "step": base[:, ::2],
        "expanded": torch.ones(1).expand(5),
        "conj": torch.complex(base, base).conj(),
        "offset": base[2:],
        "np": np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::-1],
        "grad": base.clone().requires_grad_() * 2,
    }
    store.save(1, state, wait=wait).result()
    found = store[1].load()
    for name, value in state.items():
        plain = value.detach().resolve_conj() if isinstance(value, torch.Tensor) else value
        assert np.array_equal(np.asarray(found[name]), np.asarray(plain)), name


def test_tied_tensors_are_stored_once_and_come_back_tied(store: milepost.Store) -> None:
    weight = torch.randn(64, 64)
    array = np.random.default_rng(0).random((64, 64))
    state = {"in": weight, "out": weight, "view": weight.view(64, 64), "l": [array, array[:]]}
    report = store.save(1, state, wait=False).result()
    assert len(store[1]) == 2 and report.logical_bytes < 64 * 64 * 13
    found = store[1].load()
    assert found["in"] is found["out"] and found["in"] is found["view"]
    assert found["l"][0] is found["l"][1]
    found["in"].zero_()
    assert not found["out"].any()


def test_views_of_one_memory_that_differ_are_no_ties(store: milepost.Store) -> None:
    square, array = torch.randn(8, 8), np.random.default_rng(0).random((8, 8))
    state = {"t": [square, square.t()], "n": [array, array.T], "i": square.view(torch.int32)}
    store.save(1, state)
    found = store[1].load()
    assert torch.equal(found["t"][1], square.t()) and np.array_equal(found["n"][1], array.T)
    assert found["i"].dtype == torch.int32


def test_temporary_tensors_are_not_taken_for_ties(store: milepost.Store) -> None:
    class Fresh:
        """Makes a new tensor whenever it is asked: memory may be used again."""

        def __init__(self, value: float) -> None:
            self.value = value

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"v": torch.full((1000,), self.value)}

    store.save(1, [Fresh(float(i)) for i in range(20)])
    assert [t["v"][0].item() for t in store[1].load()] == list(range(20))


def test_lazy_tensors_read_rows_and_more(store: milepost.Store) -> None:
    array = np.arange(10_000.0).reshape(100, 10, 10)
    store.save(1, {"a": array})
    lazy = store[1]["a"]
    assert lazy.shape == (100, 10, 10) and lazy.dtype == "F64" and lazy.nbytes == 80_000
    rows = [np.s_[:8], np.s_[-1], np.s_[5:50:7], np.s_[2:2], np.s_[150:]]
    for index in [*rows, np.s_[3, 2:5], np.s_[..., 3], np.s_[7, 7, 7], np.s_[:, 1:3, -2]]:
        assert np.array_equal(lazy[index].numpy(), array[index]), index
        assert lazy[index].shape == array[index].shape
        assert torch.equal(lazy[index].torch(), torch.from_numpy(np.array(array[index])))
    assert np.array_equal(lazy[10:20][3].numpy(), array[13])
    assert np.array_equal(np.asarray(lazy), array) and lazy.tobytes() == array.tobytes()
    with pytest.raises(IndexError):
        lazy[100]
    with pytest.raises(milepost.InvalidInputError):
        lazy[[1, 2]]
    with pytest.raises(KeyError, match="no tensor 'b'"):
        store[1]["b"]


def test_frameworks_can_be_exchanged(store: milepost.Store) -> None:
    store.save(1, {"n": np.arange(3), "t": torch.ones(2, dtype=torch.bfloat16)})
    as_torch = store[1].load(framework="torch")
    as_numpy = store[1].load(framework="numpy")
    assert same(as_torch["n"], torch.arange(3)) and as_numpy["t"].dtype == ml_dtypes.bfloat16
