"""Objects that have a state: how it is taken from them and given back, without pickling."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

Give = Callable[[Any], object]


def take(value: Any) -> Any:
    """The state of an object, or NotImplemented if it has none that is known.

    Anything with `state_dict()`, and the random generators of Python, NumPy and PyTorch.
    """
    if isinstance(value, random.Random):
        return value.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Generator):
        return value.get_state()
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return value.bit_generator.state
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, type) or not callable(getattr(value, "state_dict", None)):
        return NotImplemented
    return value.state_dict()


def giver(value: Any) -> Give | None:
    """What gives a state back to an object, or None if nothing does."""
    give: Give | None = None
    if isinstance(value, random.Random):
        return value.setstate
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Generator):
        give = value.set_state
        return give
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return lambda state: setattr(value.bit_generator, "state", state)
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        give = value.set_state
        return give
    give = getattr(value, "load_state_dict", None)
    return give if callable(give) and not isinstance(value, type) else None
