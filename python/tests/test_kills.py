"""Trainings of every framework are killed again and again, and end as if they never had been."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import milepost
from kills import Nursery

#: Kills in the middle of saves and at random moments, of each training.
IN_SAVES, AT_RANDOM = 3, 2
#: Steps of a training; each second one is saved. Keras counts epochs, of two steps.
STEPS = {"keras_fit": 12}
#: Transactions to let begin before a kill in the middle of one: two ranks make three for a save.
TRANSACTIONS = {"dcp_ranks": (5, 9)}


@pytest.mark.kills
@pytest.mark.parametrize(
    "module",
    ["plain_torch", "lightning_fit", "hugging_face", "jax_pytree", "keras_fit", "dcp_ranks"],
)
def test_a_training_that_is_killed_ends_bit_for_bit_as_one_that_was_not(
    module: str, tmp_path: Path
) -> None:
    steps = STEPS.get(module, 24)
    with Nursery(module) as nursery:
        expected, seconds = nursery.run(tmp_path / "whole", steps)
        killed = tmp_path / "killed"
        moments = [None] * IN_SAVES + [random.uniform(0, seconds) for _ in range(AT_RANDOM)]
        random.shuffle(moments)
        for after in moments:
            nursery.kill(killed, steps, after=after, saves=random.randint(2, 4))
        ended, _ = nursery.run(killed, steps)
        assert ended == expected, (moments, nursery.starts)
        # Or nothing was proved: kills in mid-save there were, and starts from a checkpoint too.
        assert nursery.kills and nursery.in_saves, moments
        assert nursery.starts[0] == "begins" and nursery.starts[-1] != "begins", nursery.starts
        with milepost.open(killed / "store") as store:
            assert store.verify(read_data=True)
