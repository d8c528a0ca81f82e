"""What notebooks show."""

from __future__ import annotations

import html
from collections.abc import Sequence

from milepost.reports import Summary

_WIDTH, _HEIGHT = 480, 90
_ROWS = 20


def store_html(path: str, log: Sequence[Summary]) -> str:
    """The newest checkpoints as a table, and what full saves would take beside what these do."""
    rows = "".join(
        f"<tr><td><code>{s.id[:8]}</code></td><td>{html.escape(s.run)}</td><td>{s.step}</td>"
        f"<td>{'full' if s.full else 'delta'}</td><td>{_mib(s.logical_bytes)}</td>"
        f"<td>{_mib(s.added_bytes)}</td><td>{html.escape(', '.join(s.tags))}</td></tr>"
        for s in reversed(log[-_ROWS:])
    )
    heads = ("id", "run", "step", "kind", "logical", "added", "tags")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f"<p><b>milepost</b> {html.escape(path)}: {len(log)} checkpoints</p>{_chart(log)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB"


def _chart(log: Sequence[Summary]) -> str:
    """Two lines over the saves: as full saves, and as they were added."""
    if len(log) < 2:
        return ""
    full, added = [0], [0]
    for summary in log:
        full.append(full[-1] + summary.logical_bytes)
        added.append(added[-1] + summary.added_bytes)
    most = max(full[-1], added[-1], 1)

    def line(values: list[int], colour: str) -> str:
        points = " ".join(
            f"{i * _WIDTH / (len(values) - 1):.1f},{_HEIGHT - v * _HEIGHT / most:.1f}"
            for i, v in enumerate(values)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'

    lines = line(full, "#999") + line(added, "#06c")
    label = f"grey: as full saves, {_mib(full[-1])}; blue: added, {_mib(added[-1])}"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{lines}</svg><p>{label}</p>"
    )
