"""Trainings of every framework are killed again and again, and end as if they never had been."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import milepost
from kills import Nursery

#: Kills in the middle of saves and at random moments, of each training.
IN_SAVES, AT_RANDOM = 2, 2
#: How often a kill in mid-save is tried: what is seen under way may have ended a moment later.
TRIES = 12
#: Steps of a training; each second one is saved. Keras counts epochs, of two steps.
STEPS = {"keras_fit": 12, "dcp_ranks": 80}
#: Transactions to let begin before a kill in the middle of one: two ranks make three for a save.
TRANSACTIONS = {"dcp_ranks": (5, 9)}


@pytest.mark.kills
@pytest.mark.parametrize(
    "module",
    [
        "plain_torch",
        "lightning_fit",
        "hugging_face",
        "accelerate_loop",
        "jax_pytree",
        "keras_fit",
        "tensorflow_loop",
        "deepspeed_loop",
        "dcp_ranks",
    ],
)
def test_a_training_that_is_killed_ends_bit_for_bit_as_one_that_was_not(
    module: str, tmp_path: Path
) -> None:
    steps = STEPS.get(module, 24)
    with Nursery(module) as nursery:
        expected, seconds = nursery.run(tmp_path / "whole", steps)
        killed = tmp_path / "killed"
        # In mid-save first, while there are saves to come; what is left is cut at random.
        for _ in range(TRIES):
            saves = random.randint(*TRANSACTIONS.get(module, (3, 5)))
            if not nursery.kill(killed, steps, after=None, saves=saves):
                break
            if nursery.in_saves >= IN_SAVES:
                break
        for _ in range(AT_RANDOM):
            nursery.kill(killed, steps, after=random.uniform(0, seconds))
        ended, _ = nursery.run(killed, steps)
        assert ended == expected, nursery.starts
        # Or nothing was proved: kills in mid-save there were and starts from a checkpoint, too.
        assert nursery.in_saves, nursery.starts
        assert nursery.starts[0] == "begins" and nursery.starts[-1] != "begins", nursery.starts
        with milepost.open(killed / "store") as store:
            assert store.verify(read_data=True)
