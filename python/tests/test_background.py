"""Saves in the background: staging, order, and failures that always surface."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

import milepost

PACKS_OPEN_MAX = 256


def blocked_store(store: milepost.Store, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Makes the engine's saves wait until the event is set."""
    native, go = store.native, threading.Event()

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(native, name)

        def save(self, request: object) -> object:
            assert go.wait(20)
            return native.save(request)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_of_pid", (os.getpid(), Slow()))
    return go


def test_a_change_after_staged_is_not_saved(
    store: milepost.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = blocked_store(store, monkeypatch)
    tensor, array, raw = torch.ones(5000), np.ones(5000), np.ones(3, dtype="<M8[s]")
    handle = store.save(1, {"t": tensor, "a": array, "v": tensor[::2], "r": raw}, wait=False)
    assert isinstance(handle, Future) and handle.staged.is_set() and not handle.done()
    tensor.zero_()
    array[:] = 0
    raw[:] = np.datetime64(9, "s")
    go.set()
    assert handle.result(20).step == 1
    found = store[1].load()
    assert found["t"].all() and found["a"].all() and found["v"].all()
    assert found["r"].tolist() == np.ones(3, dtype="<M8[s]").tolist()


def test_saves_keep_their_order_and_a_third_waits(
    store: milepost.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = blocked_store(store, monkeypatch)
    handles = [store.save(step, {"t": torch.full((10,), step)}, wait=False) for step in (1, 2)]
    third: list[milepost.SaveHandle] = []
    thread = threading.Thread(
        target=lambda: third.append(store.save(3, {"t": torch.full((10,), 3)}, wait=False))
    )
    thread.start()
    thread.join(0.3)
    assert not third and not any(h.done() for h in handles)
    go.set()
    thread.join(20)
    store.wait()
    assert [s.step for s in store.log()] == [1, 2, 3]
    assert [store[s].load()["t"][0].item() for s in (1, 2, 3)] == [1, 2, 3]


def test_a_save_that_waits_comes_after_those_that_do_not(store: milepost.Store) -> None:
    first = store.save(1, {"t": torch.zeros(10)}, wait=False)
    store.save(2, {"t": torch.ones(10)})
    assert first.done() and store[2].parent == store[1].id


def break_store(store: milepost.Store) -> None:
    """Makes the next save fail: its step is taken by another state."""
    store.save(7, {"t": torch.zeros(3)})


def fail(store: milepost.Store) -> milepost.SaveHandle:
    return store.save(7, {"t": torch.ones(3)}, wait=False)


def test_a_failure_is_raised_by_result(store: milepost.Store) -> None:
    break_store(store)
    with pytest.raises(milepost.ConflictError):
        fail(store).result()
    store.save(8, {})  # It was told; the next save is free of it.


@pytest.mark.parametrize("wait", [True, False])
def test_a_failure_is_raised_by_the_next_save(store: milepost.Store, wait: bool) -> None:
    break_store(store)
    handle = fail(store)
    handle.add_done_callback(lambda _: None)
    while not handle.done():
        time.sleep(0.01)
    with pytest.raises(milepost.ConflictError) as caught:
        store.save(8, {}, wait=wait)
    assert any("background save of step 7" in note for note in caught.value.__notes__)
    assert handle.done()
    store.save(9, {})


def test_a_failure_is_raised_by_close(tmp_path: Path) -> None:
    store = milepost.open(tmp_path / "s")
    break_store(store)
    fail(store)
    with pytest.raises(milepost.ConflictError):
        store.close()
    with pytest.raises(milepost.ClosedError):
        store.save(9, {})


def test_a_failure_never_replaces_the_users_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught, milepost.open(tmp_path / "s") as store:
        break_store(store)
        fail(store)
        raise ZeroDivisionError
    assert any("background save failed as well" in note for note in caught.value.__notes__)


def test_a_failure_is_logged_at_once(
    store: milepost.Store, caplog: pytest.LogCaptureFixture
) -> None:
    break_store(store)
    with pytest.raises(milepost.ConflictError):
        fail(store).result()
    assert "background save of step 7 failed" in caplog.text


def test_a_leaf_that_cannot_be_stored_is_refused_before_the_background(
    store: milepost.Store,
) -> None:
    with pytest.raises(milepost.UnsupportedTypeError):
        store.save(1, {"f": print}, wait=False)
    store.wait()


PROGRAM = """
import sys
import milepost, numpy as np
def main():
    store = milepost.open(sys.argv[1])
    store.save(1, {"a": np.zeros(9)})
    store.save(int(sys.argv[2]), {"a": np.ones(300_000)}, wait=False)
main()  # The store is let go before its save is done.
print("the end", flush=True)
"""


def test_a_program_that_ends_waits_for_its_saves(
    tmp_path: Path, run_program: Callable[..., object]
) -> None:
    run_program(PROGRAM, str(tmp_path / "s"), "2")
    assert milepost.open(tmp_path / "s")[2].load()["a"].all()


def test_a_program_whose_last_save_failed_exits_with_an_error(
    tmp_path: Path, run_program: Callable[..., object]
) -> None:
    done = run_program(PROGRAM, str(tmp_path / "s"), "1", check=False)
    assert done.returncode == 1 and "the end" in done.stdout  # type: ignore[attr-defined]
    assert "ConflictError" in done.stderr  # type: ignore[attr-defined]


def test_many_saves_leave_no_thread_and_no_file_behind(store: milepost.Store) -> None:
    tensor = torch.zeros(2000)
    files = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731

    def rounds(steps: range) -> None:
        for step in steps:
            tensor[0] = step
            store.save(step, {"t": tensor}, wait=step % 2 == 0)
            store.wait()
            store.load_into({"t": tensor})
        gc.collect()

    rounds(range(20))
    before = (threading.active_count(), files())
    rounds(range(20, 320))
    assert threading.active_count() <= before[0]
    # The engine keeps so many packs open, to read from them again.
    assert files() <= before[1] + PACKS_OPEN_MAX
