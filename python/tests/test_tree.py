"""Whatever is saved comes back: trees of every type that can be stored."""

from __future__ import annotations

import collections
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import milepost
from milepost import tree, tree_decode
from same import same

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**60, max_value=2**300),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(max_size=40),
    st.binary(min_size=5000, max_size=5001),
)
ARRAYS = st.one_of(
    st.lists(st.floats(width=32), max_size=5).map(lambda v: np.array(v, dtype=np.float32)),
    st.lists(st.integers(-9, 9), max_size=5).map(lambda v: torch.tensor(v, dtype=torch.int16)),
    st.floats(width=32).map(np.float32),
)
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.text(), st.integers()))
TREES = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(collections.OrderedDict),
    ),
    max_leaves=12,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=TREES)
def test_every_tree_comes_back_bit_for_bit(store: milepost.Store, value: Any) -> None:
    saved = store.save(None, value).result()
    assert same(store[saved.id].load(), value)


def test_special_values_keep_their_bits(store: milepost.Store) -> None:
    value = {
        "nan": float("nan"),
        "-0": -0.0,
        "inf": [float("inf"), float("-inf")],
        "tiny": 5e-324,
        "huge": -(10**5000),
        "surrogate": "\ud800",
        "set": {1, 2, "x"},
        "frozen": frozenset({(1, "a")}),
        "counter": collections.Counter("hello"),
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "np dtype": np.dtype("<M8[ns]"),
        "np scalar": np.float16(1.5),
        "time": np.datetime64("2026-11-24"),
        "bytearray": bytearray(b"ab"),
        "empty": [{}, [], (), "", b"", np.zeros((0, 3)), torch.zeros(0)],
    }
    store.save(1, value)
    assert same(store[1].load(), value)


def test_named_tuples_come_back_with_their_fields(store: milepost.Store) -> None:
    pair = collections.namedtuple("pair", "left right")
    store.save(1, {"p": pair(1, np.arange(3))})
    found = store[1].load()["p"]
    assert type(found).__name__ == "pair" and found.left == 1
    assert found.right.tolist() == [0, 1, 2]


def test_random_states_of_python_numpy_and_torch(store: milepost.Store) -> None:
    generator = np.random.default_rng(7)
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "generator": generator.bit_generator.state,
        "torch": torch.get_rng_state(),
    }
    store.save(1, state)
    assert same(store[1].load(), state)


@pytest.mark.parametrize(
    ("leaf", "path", "word"),
    [
        ({"a": [{"b": object()}]}, "a[0].b", "builtins.object"),
        ({"o": {1: {"f": len}}}, "o[1].f", "builtin_function"),
        ({"x": np.array([object()])}, "x", "Python objects"),
        ({"m": torch.zeros(2, device="meta")}, "m", "meta"),
        ({"s": torch.eye(2).to_sparse()}, "s", "layout"),
        ({"k": {object(): 1}}, "k", "key"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_path(
    store: milepost.Store, leaf: Any, path: str, word: str
) -> None:
    with pytest.raises(milepost.UnsupportedTypeError) as caught:
        store.save(1, leaf)
    assert path in str(caught.value) and word in str(caught.value)
    assert caught.value.hint and caught.value.kind == "unsupported-type"
    assert store.log() == []


def test_a_tree_that_contains_itself_is_refused(store: milepost.Store) -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(milepost.UnsupportedTypeError, match="contains itself"):
        store.save(1, loop)


def test_names_that_would_be_the_same_stay_apart(store: milepost.Store) -> None:
    value = {"a": {"b": np.arange(2)}, "a.b": np.arange(3), "": np.arange(4), "\n": np.arange(5)}
    store.save(1, value)
    assert same(store[1].load(), value)
    assert sorted(store[1]) == sorted({"a.b", "a.b~2", "value", "\\u000a"})


def test_the_document_is_json_with_a_version() -> None:
    document = json.loads(tree.encode({"lr": 0.5, "n": 3}).document)
    assert document == {
        "format": "milepost-tree",
        "version": 1,
        "root": {"dict": [["lr", {"float": "3fe0000000000000"}], ["n", 3]]},
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{", milepost.CorruptionError),
        (b'{"format":"x","version":1,"root":null}', milepost.CorruptionError),
        (b'{"format":"milepost-tree","version":2,"root":null}', milepost.FormatVersionError),
    ],
)
def test_documents_that_are_none_are_refused(text: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        tree_decode.parse(text)


@pytest.mark.parametrize("node", [{"float": "x"}, {"int": 3}, {"named": {}}, {"a": 1, "b": 2}])
def test_nodes_that_break_the_rules_are_damage(node: Any) -> None:
    builder = tree_decode.Builder(lambda _t, _p: None, lambda _n: b"")
    with pytest.raises(milepost.CorruptionError):
        builder.build({"dict": [["x", node]]})


def test_no_source_of_the_package_can_unpickle_code() -> None:
    folder = Path(milepost.__file__).parent
    for source in folder.rglob("*.py"):
        code = source.read_text()
        assert "import pickle" not in code, source
        # That loader of PyTorch takes tensors and plain values only, and calls nothing.
        loads = [line for line in code.splitlines() if "torch.load(" in line]
        assert all("weights_only=True" in line for line in loads), source
        assert not loads or source.name == "convert.py"


@pytest.mark.parametrize("value", [np.str_(""), np.bytes_(b""), np.void(b""), np.str_("a")])
def test_numpy_scalars_of_no_bytes_do_not_spoil_a_tree(store: milepost.Store, value: Any) -> None:
    """They could be saved, and nothing of the checkpoint could be loaded."""
    store.save(1, {"v": value, "w": 2})
    found = store[1].load()
    assert found["v"].tobytes() == value.tobytes() and type(found["v"]) is type(value)


def test_what_has_no_values_yet_is_refused_with_its_path(store: milepost.Store) -> None:
    import jax

    for value, why in (
        ({"m": torch.nn.LazyLinear(3)}, "net.m.weight.*no shape yet"),
        ([jax.random.key(0)], r"net\[0\].*no numbers"),
    ):
        with pytest.raises(milepost.UnsupportedTypeError, match=why):
            store.save(1, {"net": value})


def test_metrics_are_numbers_also_those_with_a_gradient(
    store: milepost.Store, recwarn: pytest.WarningsRecorder
) -> None:
    store.save(1, {}, metrics={"loss": torch.ones((), requires_grad=True) * 2})
    assert store[1].metrics == {"loss": 2.0} and not recwarn.list
    with pytest.raises(milepost.InvalidInputError, match="'loss' is 'x'"):
        store.save(2, {}, metrics={"loss": "x"})  # type: ignore[dict-item]
    with pytest.raises(milepost.InvalidInputError, match="'a' is no training step"):
        store.save("a", {})  # type: ignore[arg-type]
