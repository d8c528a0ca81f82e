"""Faithful resume: everything that a training's next step depends on, in one object.

A training that is killed and resumed with it goes on exactly as if nothing had happened, as far
as its arithmetic is deterministic.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from milepost import tree
from milepost.background import SaveHandle
from milepost.opening import open as open_store
from milepost.reports import LoadReport
from milepost.store import Store

#: The part of a saved state that holds the random generators.
_RANDOM = "random"


class RandomState:
    """The global random generators of Python, NumPy and PyTorch, those of CUDA devices included.

    Those of NumPy and PyTorch are taken if the program has imported them.
    """

    def state_dict(self) -> dict[str, Any]:
        """Their states."""
        state: dict[str, Any] = {"python": random.getstate()}
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if numpy is not None:
            state["numpy"] = numpy.random.get_state()
        if torch is not None:
            state["torch"] = torch.get_rng_state()
            if torch.cuda.is_available():
                state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets them. States of what this machine lacks are passed over."""
        random.setstate(state["python"])
        if "numpy" in state:
            import numpy as np

            np.random.set_state(state["numpy"])
        if "torch" in state:
            import torch

            torch.set_rng_state(state["torch"])
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state_all(state["cuda"])


class Training:
    """What a training is made of, to be saved and resumed as a whole.

        training = milepost.Training(model=model, optimizer=optimizer, loader=loader, epoch=0)
        training.resume(store)
        ...
        training.save(store, step)

    Parts are given by name: modules, optimizers, schedulers, scalers, loaders and whatever else
    has `state_dict()` and `load_state_dict()`; arrays and trees of them; and plain values, which
    are attributes: `training.epoch += 1`. The random generators are a part of their own.
    """

    def __init__(self, **parts: Any) -> None:
        if _RANDOM in parts:
            raise TypeError(f"{_RANDOM!r} is the name of the random generators")
        self.__dict__["_parts"] = {**parts, _RANDOM: RandomState()}

    def __getattr__(self, name: str) -> Any:
        parts: dict[str, Any] = self.__dict__.get("_parts", {})
        if name in parts:
            return parts[name]
        raise AttributeError(f"this training has no part {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._parts or name == _RANDOM:
            raise AttributeError(f"this training has no part {name!r}; name it when it is made")
        self._parts[name] = value

    def __repr__(self) -> str:
        return f"<milepost.Training of {', '.join(self._parts)}>"

    def tree(self) -> dict[str, Any]:
        """The parts by name: the state that is saved."""
        return dict(self._parts)

    def save(self, store: Store, step: int, **options: Any) -> SaveHandle:
        """Saves it as the checkpoint of a step; options are those of Store.save."""
        return store.save(step, self._parts, **options)

    def resume(
        self, store: Store, revision: int | str | None = None, *, strict: bool = True
    ) -> LoadReport | None:
        """Loads the newest checkpoint of the store's run, or another.

        The random generators are set last. Returns a report whose `step` is the checkpoint's, or
        None if there is no checkpoint yet and no revision was named.

        Raises MismatchError if the parts do not fit what was saved: nothing was changed then.
        """
        parts: dict[str, Any] = self._parts
        report = store.load_into(parts, revision, strict=strict, missing_ok=revision is None)
        return report


class Resumed:
    """A training that was opened with its store by `milepost.resume`."""

    def __init__(self, store: Store, training: Training, found: LoadReport | None) -> None:
        #: The store, and the parts of the training.
        self.store, self.training = store, training
        #: What was loaded, or None if the training begins.
        self.found = found
        #: The step to begin with: 0, or the one behind the checkpoint that was loaded.
        self.start = 0 if found is None else found.step + 1

    def save(self, step: int, **options: Any) -> SaveHandle:
        """Saves the training as the checkpoint of a step; options are those of Store.save."""
        return self.training.save(self.store, step, **options)

    def close(self) -> None:
        """Closes the store; see Store.close."""
        self.store.close()

    def __enter__(self) -> Resumed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.store.__exit__(kind, error, trace)


def resume(
    path: str | os.PathLike[str], *, run: str = "main", strict: bool = True, **parts: Any
) -> Resumed:
    """Opens a store, made if there is none, and loads the newest checkpoint of a run, if any.

        run = milepost.resume("runs/gpt2", model=model, optimizer=optimizer)
        for step in range(run.start, steps):
            ...
            run.save(step)

    `parts` are those of Training: the random generators come with them. Without `strict`, what
    fits is loaded.

    Raises UnsupportedTypeError if a part cannot be saved, MismatchError if the parts do not fit
    what was saved: nothing was changed then.
    """
    training = Training(**parts)
    # What cannot be saved is better told before the first step than after it.
    tree.encode(training.tree())
    store = open_store(path, run=run)
    return Resumed(store, training, training.resume(store, strict=strict))


class ResumableLoader:
    """Batches of a dataset in an order that can be resumed in the middle of an epoch.

    Wraps torch.utils.data.DataLoader, whose options it takes. The order of an epoch is made of
    `seed` and the epoch's number alone, whatever else draws random numbers. Iterating once is one
    epoch; after a resume, the first iteration goes on behind the last batch that was taken.

    What workers draw at random is seeded by epoch: to be bit-identical after a resume in the
    middle of one, a dataset must draw nothing, or derive it from the index.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self._dataset, self._options = dataset, options
        self._batch_size, self._shuffle, self._drop_last = batch_size, shuffle, drop_last
        self._seed = seed
        #: The epoch that is iterated, or will be next.
        self.epoch = 0
        #: Batches of it that were taken.
        self.taken = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        whole, rest = divmod(len(self._dataset), self._batch_size)
        return whole + bool(rest and not self._drop_last)

    def __iter__(self) -> Iterator[Any]:
        import torch

        mixed = (self._seed * 1_000_003 + self.epoch) % 2**63
        seed = torch.Generator().manual_seed(mixed)
        count = len(self._dataset)
        order = torch.randperm(count, generator=seed).tolist() if self._shuffle else range(count)
        starts = range(0, len(self) * self._batch_size, self._batch_size)
        batches = [list(order[at : at + self._batch_size]) for at in starts[self.taken :]]
        sampler: Sequence[list[int]] = batches
        loader = torch.utils.data.DataLoader(
            self._dataset, batch_sampler=sampler, generator=seed, **self._options
        )
        for batch in loader:
            # Counted before it is given: who saves now has taken it.
            self.taken += 1
            yield batch
        self.epoch, self.taken = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"epoch": self.epoch, "taken": self.taken, "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes there; the next iteration starts behind the last batch that was taken."""
        self.epoch, self.taken = state["epoch"], state["taken"]
        self._seed = state["seed"]
