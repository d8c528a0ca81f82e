"""Bar charts as an SVG that reads well on light and dark pages."""

from __future__ import annotations

from typing import NamedTuple

WIDTH = 760
LABELS = 210
ROW = 16
HEAD = 30
STYLE = """text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .rival { fill: #8c959f } .ours { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 }
.rival { fill: #6e7681 } .ours { fill: #4493f8 } }"""


class Bar(NamedTuple):
    """A label, already escaped, a share of raw, and whether the bar is to stand out."""

    label: str
    share: float
    ours: bool


def draw(plots: dict[str, list[Bar]]) -> str:
    """One chart below the other; every bar is as long as its share of the raw bytes."""
    parts: list[str] = []
    top = 0
    longest = max((bar.share for bars in plots.values() for bar in bars), default=1.0)
    scale = (WIDTH - LABELS - 70) / max(1.0, longest)
    for title, bars in plots.items():
        if not bars:
            continue
        label = f"{title}: bytes after the first checkpoint, share of raw"
        parts.append(f'<text class="title" x="0" y="{top + 20}">{label}</text>')
        top += HEAD
        for bar in bars:
            kind = "ours" if bar.ours else "rival"
            length = max(1.0, bar.share * scale)
            text = f'y="{top + 12}"'
            parts.append(f'<text x="{LABELS - 8}" {text} text-anchor="end">{bar.label}</text>')
            parts.append(
                f'<rect class="{kind}" x="{LABELS}" y="{top + 2}" '
                f'width="{length:.1f}" height="{ROW - 4}"/>'
            )
            parts.append(f'<text x="{LABELS + length + 6:.1f}" {text}>{bar.share:.4f}</text>')
            top += ROW
        top += 8
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"
