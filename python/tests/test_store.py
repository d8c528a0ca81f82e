"""Opening, saving, looking up, forking, forgetting, verifying."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import milepost
from milepost import Keep
from same import same


def state(seed: int) -> dict[str, np.ndarray]:
    """A state of two arrays."""
    rng = np.random.default_rng(seed)
    return {"w": rng.random(3000), "b": rng.random(10)}


def test_the_package_says_its_version() -> None:
    assert milepost.__version__ == metadata.version("milepost")


def test_five_lines(tmp_path: Path) -> None:
    with milepost.open(tmp_path / "s") as store:
        target = state(0)
        assert store.load_into(target, missing_ok=True) is None
        store.save(5, state(1), metrics={"loss": 2.5}, tags=["best"], metadata={"k": "v"})
    with milepost.open(tmp_path / "s", mode="r") as store:
        report = store.load_into(target)
        assert report is not None and report.step == 5 and same(target, state(1))
        best = store["best"]
        assert (best.step, best.metrics, best.metadata) == (5, {"loss": 2.5}, {"k": "v"})


def test_another_models_state_is_coded_against_the_nearest(store: milepost.Store) -> None:
    for run in range(3):
        store.save(1, state(run), run=f"run-{run}")
    tuned = {f"their.{name}": array + 1e-9 for name, array in state(1).items()}
    alone = store.save(1, tuned, run="alone").result()
    assert alone.like is None
    store.forget("alone@step:1")
    near = store.save(1, tuned, run="near", like="auto").result()
    assert near.like == "run-1@step:1" and near.added_bytes * 4 < alone.added_bytes * 3
    assert same(store["near"].load(), tuned)
    with pytest.raises(milepost.NotFoundError):
        store.save(1, tuned, run="none", like="nobody")


def test_revisions_and_the_log(store: milepost.Store) -> None:
    for step in (10, 20, 30):
        store.save(step, state(step))
    store.tag("good", 20)
    store.save(5, state(5), run="other")
    assert [store[r].step for r in (10, "latest~0", "good", "main@latest", "main@latest~1")] == [
        10,
        5,
        20,
        30,
        20,
    ]
    assert 20 in store and "nope" not in store and 99 not in store and None not in store
    assert [(s.run, s.step, s.tags) for s in store.log("main")] == [
        ("main", 10, ()),
        ("main", 20, ("good",)),
        ("main", 30, ()),
    ]
    assert store.runs == ["main", "other"] and list(store.tags) == ["good"]
    store.untag("good")
    with pytest.raises(milepost.NotFoundError):
        store.untag("good")
    with pytest.raises(milepost.NotFoundError):
        store.log("nope")


def test_a_checkpoint_is_a_mapping_of_names(store: milepost.Store) -> None:
    store.save(1, {"m": state(1), "lr": 0.1})
    found = store[1]
    assert list(found) == ["m.b", "m.w"] and len(found) == 2 and "m.w" in found
    assert list(found.keys("*.w")) == ["m.w"]
    assert found.tree()["lr"] == 0.1 and found.tree()["m"]["w"].shape == (3000,)
    assert same(found.load("m.w"), {"m": {"w": state(1)["w"]}})
    assert same(found.load(["lr"]), {"lr": 0.1})
    with pytest.raises(milepost.NotFoundError):
        found.load("x.*")
    assert "step 1 of run 'main'" in repr(found) and "<table>" in found._repr_html_()


def test_forks_share_what_they_start_from(store: milepost.Store) -> None:
    store.save(1, state(1))
    report = store.fork(1, "branch")
    assert report.run == "branch" and same(store["branch"].load(), state(1))
    with pytest.raises(milepost.ConflictError):
        store.fork(1, "branch")
    store.save(2, state(2), run="branch")
    assert store["branch"].parent == store["branch@step:1"].id


def test_forgetting_by_rule_and_by_name(store: milepost.Store) -> None:
    for step in range(1, 7):
        store.save(step, state(step), metrics={"loss": abs(step - 3)})
    plan = store.forget(keep=Keep(last=2, best="loss:min:1"), dry_run=True)
    assert [s.step for s in plan.gone] == [1, 2, 4] and len(store.log()) == 6
    done = store.forget(keep=Keep(last=2, best="loss:min:1"))
    assert done.freed_bytes == plan.freed_bytes > 0
    assert [s.step for s in store.log()] == [3, 5, 6]
    store.forget(5)
    assert [s.step for s in store.log()] == [3, 6] and store.verify(read_data=True)
    store.forget(3, drop=["b"])
    assert store[3]["b"].dropped and same(store[3].load("w"), {"w": state(3)["w"]})
    assert store.gc(dry_run=True).removed_packs == 0
    store.compact()
    assert store.disk_usage()["total_bytes"] > 0


def test_the_same_step_with_another_state_is_a_conflict(store: milepost.Store) -> None:
    store.save(1, state(1))
    assert store.save(1, state(1)).result().existed
    with pytest.raises(milepost.ConflictError) as caught:
        store.save(1, state(2))
    assert caught.value.kind == "conflict"


def test_damage_is_found_and_named(tmp_path: Path, store: milepost.Store) -> None:
    store.save(1, state(1))
    [pack] = (tmp_path / "store" / "packs").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    data[300] ^= 1
    pack.unlink()
    pack.write_bytes(data)
    found = milepost.open(tmp_path / "store").verify()
    assert not found and found.problems[0].tensors
    with pytest.raises(milepost.CorruptionError) as caught:
        milepost.open(tmp_path / "store")[1].load()
    assert caught.value.file is not None


@pytest.mark.parametrize("step", [-1, 1.5, True, 2**64])
def test_steps_that_are_none_are_refused(store: milepost.Store, step: object) -> None:
    with pytest.raises(milepost.InvalidInputError):
        store.save(step, {})  # type: ignore[arg-type]


def test_a_folder_without_a_store_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(milepost.NotFoundError) as caught:
        milepost.open(tmp_path / "none", mode="r")
    assert caught.value.code == "no-store" and not (tmp_path / "none").exists()


def test_settings_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(milepost.InvalidInputError):
        milepost.open(tmp_path / "s", restore_budget=0.5)
    with pytest.raises(milepost.InvalidInputError):
        milepost.open(tmp_path / "s", chunk_bytes=7)
    with pytest.raises(milepost.InvalidInputError):
        milepost.open(tmp_path / "s", level="best")
    assert not (tmp_path / "s").exists()


def test_a_store_as_a_notebook_shows_it(store: milepost.Store) -> None:
    store.save(1, state(1))
    store.save(2, state(1))
    assert "<svg" in store._repr_html_() and "2 checkpoints" in store._repr_html_()


def test_a_full_quota_says_so(tmp_path: Path) -> None:
    with milepost.open(tmp_path / "s", quota=100_000) as store:
        with pytest.raises(milepost.NoSpaceError) as caught:
            store.save(1, {"w": np.random.default_rng(0).random(100_000)})
        assert caught.value.kind == "no-space" and isinstance(caught.value, OSError)
