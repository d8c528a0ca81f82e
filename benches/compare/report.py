"""Turns the figures of `compare.py` into a table (Markdown) and a plot (SVG).

    python benches/compare/report.py --figures FILE --table docs/comparison.md \\
        --plot docs/comparison.svg
"""

from __future__ import annotations

import argparse
import json
from html import escape
from pathlib import Path

from svg import Bar, draw

GB = 1e9


def share(figures: dict, raw: dict, key: str) -> str:
    """A size over the raw size, or a dash where there is none."""
    return f"{figures[key] / raw[key]:.4f}" if raw.get(key) and key in figures else "-"


def speed(figures: dict, name: str) -> str:
    """A median speed in GB/s of raw bytes."""
    value = figures.get(f"{name}_bytes_per_second")
    return f"{value / GB:.3f}" if value else "-"


def head(report: dict) -> list[str]:
    """Where the figures come from, and what the columns mean."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in report["versions"].items())
    return [
        "# Comparison",
        "",
        "Made by `make compare`; do not edit. Sizes are exact and in shares of raw safetensors;",
        "speeds are medians over the checkpoints, in GB/s of raw bytes. Every codec runs on one",
        "thread unless its note says otherwise; speeds of programs (milepost, zstd -19, xdelta3,",
        "borg, restic) include the start of the process and the files they write, and milepost's",
        "saves are durable. Every output was decoded and compared byte for byte. After first:",
        "bytes of all checkpoints but the first. BitX and TensorX are re-creations; their first",
        "checkpoint is coded without the XOR.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / (1 << 30):.0f} GiB, Linux {machine['kernel']}.",
        f"Versions: {versions}.",
    ]


def table_of(name: str, facts: dict) -> list[str]:
    """One workload's table: bounds, milepost, rivals, in the order in which they were measured."""
    raw = facts["raw"]
    lines = [
        "",
        f"## {name}",
        "",
        f"{facts['states']} checkpoints, {raw['total_bytes']:,} bytes.",
        "",
        "| method | total | after first | encode, GB/s | decode, GB/s |"
        " restore cost (planned / measured) | note |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| raw safetensors | 1.0000 | 1.0000 | | | | |",
    ]
    for kind, bound in facts.get("bounds", {}).items():
        sizes = f"{share(bound, raw, 'total_bytes')} | {share(bound, raw, 'after_first_bytes')}"
        lines.append(f"| bound: {kind} | {sizes} | | | | |")
    for method, figures in facts["methods"].items():
        if "failed" in figures:
            lines.append(f"| {method} | - | - | - | - | | could not be run |")
            continue
        sizes = f"{share(figures, raw, 'total_bytes')} | {share(figures, raw, 'after_first_bytes')}"
        cost = facts.get("restore_costs", {}).get(method)
        planned = f"{cost['planned']:.2f}" if cost and cost["planned"] else "-"
        costs = f"{planned} / {cost['measured']:.2f}" if cost else ""
        speeds = f"{speed(figures, 'encode')} | {speed(figures, 'decode')}"
        lines.append(f"| {method} | {sizes} | {speeds} | {costs} | {figures.get('note', '')} |")
    return lines


def bars_of(report: dict) -> dict[str, list[Bar]]:
    """Bytes after the first checkpoint in shares of raw: the bars of each workload."""
    plots = {}
    for name, facts in report["workloads"].items():
        raw = facts["raw"]["after_first_bytes"]
        bars = [
            Bar(escape(method), figures["after_first_bytes"] / raw, method.startswith("milepost"))
            for method, figures in facts["methods"].items()
            if raw and "after_first_bytes" in figures
        ]
        plots[name] = sorted(bars, key=lambda bar: bar.share)
    return plots


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, required=True, help="JSON of compare.py")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    args = parser.parse_args()
    report = json.loads(args.figures.read_text())
    lines = [*head(report), "", f"![Bytes after the first checkpoint]({args.plot.name})"]
    for name, facts in report["workloads"].items():
        lines += table_of(name, facts)
    args.table.write_text("\n".join(lines) + "\n")
    args.plot.write_text(draw(bars_of(report)))


if __name__ == "__main__":
    main()
