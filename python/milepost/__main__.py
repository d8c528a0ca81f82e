"""The ``milepost`` command, as a console script and as ``python -m milepost``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run one command, by default the process's own arguments; return its exit code."""
    from milepost import _engine

    own = list(sys.argv[1:] if args is None else args)
    return _engine.run_command([sys.executable, "-m", "milepost"], own)


if __name__ == "__main__":
    sys.exit(main())
