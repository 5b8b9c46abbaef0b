"""A picture for each group: bars for each client of each case, ours in colour; small files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib as mpl
from PIL import Image

mpl.use("agg")
from matplotlib import pyplot as plt

from .groups import GROUPS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from .running import Results

COLUMNS = 3
DOTS = 84  # an inch; this and few colours keep a file below 60 kB
COLOURS = 20
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
    bars = {
        case: [(peer, results.median(name, case, peer, key) or 0.0) for peer in results.peers(name, case)]
        for case in cases
    }
    if name == "scaling":  # no peers: all in one picture
        only = {f"{case} ({peer.split()[-1]})": value for case, found in bars.items() for peer, value in found}
        bars = {"ours": list(only.items())}
    columns = min(COLUMNS, len(bars))
    rows = -(-len(bars) // columns)
    most = max(map(len, bars.values()))
    figure, grid = plt.subplots(
        rows, columns, figsize=(5.2 * columns, rows * (1.0 + 0.24 * most)), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(bars) :]:
        axes.set_visible(False)
    for axes, (case, found) in zip(grid.flat, bars.items(), strict=False):
        found.sort(key=lambda bar: bar[1], reverse=not group.more)
        ours = [peer.startswith("pooltransport") or name == "scaling" for peer, _ in found]
        drawn = axes.barh(
            [peer for peer, _ in found],
            [value for _, value in found],
            color=[OURS if mine else OTHERS for mine in ours],
        )
        axes.bar_label(
            drawn, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.2f}", fontsize=7, padding=2
        )
        axes.set_title(case, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    better = "more is better" if group.more else "less is better"
    figure.suptitle(f"{group.title} ({title}; {better})", fontsize=10)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write it with few colours: a third of the size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(path, optimize=True)
