"""Forks, Ctrl-C and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import milepost

FORK = """
import os, sys
import milepost, numpy as np
store = milepost.open(sys.argv[1])
big = np.random.default_rng(0).random(600_000)
store.save(1, {"a": big})
store["latest"].load()  # The threads of the parent are running now.
handle = store.save(2, {"a": big + 1}, wait=False)
child = os.fork()
if child == 0:
    assert (store[1].load()["a"] == big).all()
    for use in (lambda: store.save(3, {"a": big}), lambda: store.save(3, {"a": big}, wait=False)):
        try:
            use()
        except milepost.ClosedError as error:
            assert error.code == "forked" and "open it again" in error.hint
        else:
            os._exit(7)
    with milepost.open(sys.argv[1], run="child") as mine:
        mine.save(1, {"a": big[:5]})
    store.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
handle.result()
store.close()
assert store.path == sys.argv[1]
"""


HELD = """
import gc, os, sys
import milepost, numpy as np
from milepost import tree
store = milepost.open(sys.argv[1])
encoded = tree.encode({"a": np.arange(100.0)})
part = store.save_part(encoded, store.request(encoded, "main", step=1, durability="durable"), 0, 1)

def child(drops):
    # It has all that its parent has, as a worker of a data loader. Returns how to end it.
    global part
    told, tell = os.pipe()
    wait, go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        if drops:
            del part
            gc.collect()
        os.write(tell, b"x")
        os.read(wait, 1)
        os._exit(0)
    os.read(told, 1)
    def end():
        os.write(go_on, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return end

ends = [child(drops=True), child(drops=False)]
try:
    other = milepost.open(sys.argv[1], lock_timeout=0)
    try:
        other.gc()
    except milepost.LockedError:
        pass
    else:
        sys.exit("a forked process has given up its parent's lock")
    intents = [n for n in os.listdir(sys.argv[1] + "/txn") if n.endswith(".txn")]
    assert len(intents) == 1, "a forked process has ended its parent's transaction"
    part.close()
    assert other.gc().removed_packs == 1, "the lock outlives its holder in a forked process"
finally:
    for end in ends:
        end()
"""


def test_locks_are_given_up_by_whoever_took_them(
    tmp_path: Path, run_program: Callable[..., object]
) -> None:
    run_program(HELD, str(tmp_path / "s"))


def test_a_forked_child_reads_and_is_told_to_open_before_it_saves(
    tmp_path: Path, run_program: Callable[..., object]
) -> None:
    run_program(FORK, str(tmp_path / "s"))
    store = milepost.open(tmp_path / "s")
    assert [(s.run, s.step) for s in store.log()] == [("child", 1), ("main", 1), ("main", 2)]


INTERRUPTED = """
import signal, sys
# What is started in the background of a shell, as by nohup, ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
import milepost, numpy as np
store = milepost.open(sys.argv[1])
state = {"a": np.random.default_rng(0).random(60_000_000)}
try:
    print("saving", flush=True)
    store.save(1, state, level="archive")
except KeyboardInterrupt:
    print("interrupted", len(store.log()), flush=True)
"""


def test_ctrl_c_stops_a_save_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(INTERRUPTED)
    program = subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None and program.stdout.readline() == "saving\n"
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert program.stdout.read() == "interrupted 0\n"
    assert program.wait() == 0 and time.monotonic() - started < 10
    assert milepost.open(tmp_path / "s").verify()


def test_a_lock_that_another_process_holds_can_be_waited_for_in_vain(tmp_path: Path) -> None:
    store = milepost.open(tmp_path / "s", lock_timeout=0.2)
    store.save(1, {})
    import fcntl

    gates = [p for p in (tmp_path / "s" / "txn").iterdir() if p.name == "gate.lock"]
    assert gates
    with gates[0].open("r+") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        with pytest.raises(milepost.LockedError) as caught:
            store.save(2, {})
    assert isinstance(caught.value, TimeoutError)


def test_the_wheel_carries_the_command(tmp_path: Path) -> None:
    folder = str(tmp_path / "s")
    with milepost.open(folder) as store:
        store.save(3, {"w": __import__("numpy").arange(4.0)}, metrics={"loss": 1.5})

    def command(*args: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "milepost", "--store", folder, *args]
        return subprocess.run(whole, capture_output=True, text=True, cwd=tmp_path)

    shown = command("log", "--json")
    assert shown.returncode == 0 and '"loss":1.5' in shown.stdout.replace(" ", "")
    missing = command("ls", "nope")
    assert missing.returncode == 12 and "error:" in missing.stderr
    assert command("--nonsense").returncode == 2
    restored = command("restore", "latest", "-o", str(tmp_path / "x.safetensors"))
    assert restored.returncode == 0, restored.stderr
    script = Path(milepost.__file__).parent.parent / "bin" / "milepost"
    if script.exists():
        here = {**os.environ, "PYTHONPATH": str(script.parent.parent)}
        shown = subprocess.run([str(script), "version"], capture_output=True, text=True, env=here)
        assert shown.stdout.startswith("milepost "), shown.stderr
