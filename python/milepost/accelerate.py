"""All that an Accelerator has prepared, as one checkpoint of a store.

    milepost.accelerate.save_state(accelerator, store, step)
    found = milepost.accelerate.load_state(accelerator, store)

They stand for `accelerator.save_state(folder)` and `load_state(folder)`: models, optimizers,
schedulers, the scaler, where the data loaders are, what was registered for checkpointing, and the
random generators of every process. Nothing is pickled. Call both in every process, each with a
store that it opened itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType

from milepost import loading, tree
from milepost.errors import InvalidInputError, NotFoundError
from milepost.ranks import Ranks, save_together
from milepost.reports import LoadReport
from milepost.store import Store
from milepost.training import RandomState

_log = logging.getLogger("milepost")

#: Where every process holds all that there is to save.
_REPLICATED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_XPU", "MULTI_MLU")


def save_state(
    accelerator: Accelerator,
    store: Store,
    step: int,
    *,
    run: str | None = None,
    durability: str = "durable",
    **options: Any,
) -> str:
    """Saves the state of every process as the checkpoint of a step; returns its id in each.

    The main process saves what all hold, every process its random generators; all of it is
    committed together. `options` are those of Store.save and are the main process's.

    Raises what Store.save raises, in every process, and InvalidInputError where models are spread
    over processes: save those with milepost.dcp.
    """
    _require_replicated(accelerator)
    return save_together(
        Ranks.here(),
        store,
        step,
        own=lambda: _own(accelerator),
        shared=lambda: _shared(accelerator),
        run=store.run if run is None else run,
        durability=durability,
        **options,
    )


def load_state(
    accelerator: Accelerator,
    store: Store,
    revision: int | str | None = None,
    *,
    strict: bool = True,
) -> LoadReport | None:
    """Loads a checkpoint of `save_state` into what is prepared now, by default the newest.

    Returns a report whose `step` is the checkpoint's, or None if there is none and no revision was
    named. A process that had no counterpart when it was saved keeps its random generators.

    Raises MismatchError if the two do not fit and `strict` is set: nothing was changed then.
    """
    _require_replicated(accelerator)
    report = store.load_into(
        _shared(accelerator), revision, strict=strict, missing_ok=revision is None
    )
    if report is None:
        return None
    # The very checkpoint, whatever is newest by now.
    try:
        part = store[report.id].part(tree.of_part(accelerator.process_index))
    except NotFoundError:
        _log.warning("process %d keeps its random generators", accelerator.process_index)
    else:
        loading.load_into(part, _own(accelerator))
    return report


def _shared(accelerator: Accelerator) -> dict[str, Any]:
    """What every process holds alike."""
    scaler = accelerator.scaler
    return {
        "models": [accelerator.unwrap_model(model) for model in accelerator._models],
        "optimizers": list(accelerator._optimizers),
        "schedulers": list(accelerator._schedulers),
        "scaler": {} if scaler is None else {"its": scaler},
        "loaders": [_Loader(loader) for loader in accelerator._dataloaders],
        "registered": list(accelerator._custom_objects),
    }


def _own(accelerator: Accelerator) -> dict[str, Any]:
    """What each process has of its own, under a name of its own."""
    name = f"process{accelerator.process_index}"
    return {name: {"step": _Step(accelerator), "random": RandomState()}}


class _Loader:
    """Where a prepared data loader is."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and where in it the loader is, if it can tell."""
        state = {"iteration": int(getattr(self._loader, "iteration", 0))}
        if getattr(self._loader, "use_stateful_dataloader", False):
            state["stateful"] = self._loader.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes there."""
        if hasattr(self._loader, "set_epoch"):
            self._loader.set_epoch(state["iteration"])
        self._loader.iteration = state["iteration"]
        if "stateful" in state:
            self._loader.load_state_dict(state["stateful"])


class _Step:
    """Where an accelerator is in accumulating gradients."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def state_dict(self) -> dict[str, int]:
        """Its count."""
        return {"step": self._accelerator.step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Sets it."""
        self._accelerator.step = state["step"]


def _require_replicated(accelerator: Accelerator) -> None:
    kind: DistributedType = accelerator.distributed_type
    if kind.value not in _REPLICATED:
        raise InvalidInputError(
            f"under {kind.value} models are spread over processes",
            code="distributed-type",
            hint="save them with torch.distributed.checkpoint and milepost.dcp",
        )


__all__ = ["load_state", "save_state"]
