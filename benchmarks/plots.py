"""A picture for each group: bars for each client of each case, ours in colour; small files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from .groups import GROUPS

if TYPE_CHECKING:
    from pathlib import Path

    from .running import Results

COLUMNS = 3
DOTS = 70  # an inch; keeps a file below 60 kB
OURS, OTHERS = "#2a6f97", "#b8c0c8"


def draw(results: Results, groups: list[str], folder: Path) -> None:
    """Write `GROUP.png` of each group that has figures."""
    for name in groups:
        cases = results.cases(name)
        if cases:
            _draw(results, name, cases, folder / f"{name}.png")


def _draw(results: Results, name: str, cases: list[str], path: Path) -> None:
    group = GROUPS[name]
    key, title, _ = group.columns[0]
    columns = min(COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    most = max(len(results.peers(name, case)) for case in cases)
    figure, grid = plt.subplots(
        rows, columns, figsize=(5.2 * columns, rows * (1.0 + 0.24 * most)), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(cases) :]:
        axes.set_visible(False)
    for axes, case in zip(grid.flat, cases, strict=False):
        bars = [(peer, results.median(name, case, peer, key) or 0.0) for peer in results.peers(name, case)]
        bars.sort(key=lambda bar: bar[1], reverse=not group.more)
        colours = [OURS if peer.startswith("pooltransport") else OTHERS for peer, _ in bars]
        drawn = axes.barh([peer for peer, _ in bars], [value for _, value in bars], color=colours)
        axes.bar_label(
            drawn, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.2f}", fontsize=7, padding=2
        )
        axes.set_title(case, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    better = "more is better" if group.more else "less is better"
    figure.suptitle(f"{group.title} ({title}; {better})", fontsize=10)
    figure.savefig(path, dpi=DOTS, pil_kwargs={"optimize": True})
    plt.close(figure)
