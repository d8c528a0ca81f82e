"""Errors, messages and progress."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest

import milepost
from milepost import _engine, errors


def test_kinds_are_those_of_the_engine_and_stay() -> None:
    assert errors.engine_kinds() == set(_engine.error_kinds())
    assert errors.engine_kinds() == {
        "corrupt",
        "unsupported",
        "not-found",
        "invalid-input",
        "limit",
        "conflict",
        "locked",
        "no-space",
        "interrupted",
        "io",
    }


@pytest.mark.parametrize(
    "of", [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.Error)]
)
def test_errors_survive_pickling_and_show_their_hint(of: type[errors.Error]) -> None:
    error = of("a message", code="x", hint="do this", file="f")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is of and str(again) == "a message" and again.__notes__ == ["hint: do this"]
    assert (again.kind, again.code, again.hint, again.file) == (of.kind, "x", "do this", "f")


def test_the_operating_systems_number_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(milepost.Error) as caught:
        milepost.open(tmp_path / "file" / "store")
    assert isinstance(caught.value, OSError) == isinstance(caught.value, milepost.StorageError)
    assert caught.value.kind in ("io", "not-found")


def test_engine_messages_go_to_logging(
    tmp_path: Path, store: milepost.Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(1, {"a": np.arange(9)})
    store.save(2, {"a": np.arange(9) + 1})
    [newest] = (tmp_path / "store" / "runs" / "main").glob("*2-*.ckpt")
    data = bytearray(newest.read_bytes())
    data[40] ^= 255
    newest.unlink()
    newest.write_bytes(data)
    with caplog.at_level(logging.INFO, logger="milepost"):
        assert milepost.open(tmp_path / "store")["main"].step == 1
    assert "passed over" in caplog.text


def test_progress_is_told_in_bytes_and_can_stop_the_work(store: milepost.Store) -> None:
    told: list[tuple[int, int]] = []
    state = {"a": np.random.default_rng(0).random(1_000_000)}
    store.save(1, state, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == 8_000_000 + store[1].blobs["milepost.tree"]

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        store.save(2, {"a": np.random.default_rng(1).random(30_000_000)}, progress=stop)


def test_a_bar_of_tqdm_shows_a_load(
    store: milepost.Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(1, {"a": np.zeros(1_000_000)})
    store[1].load(progress=True)
    assert "load step 1" in capsys.readouterr().err
