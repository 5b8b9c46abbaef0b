"""The one place where the dashboard is written.

1. Every metric of the catalogue is on it: those that are opt-in show "no data" where they are off.
2. Ratios and rates are computed here, never exported.
3. A panel's `description` says what a bad value means, and names the page for it where there is one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .panels import PROCESS, ROWS

if TYPE_CHECKING:
    from .panels import Panel, Target

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


def dashboard_json() -> str:
    """Return what `pooltransport.json` holds."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict[str, Any]:
    """Return the dashboard as plain values."""
    panels: list[dict[str, Any]] = []
    x = y = tallest = 0
    for row, members in ROWS:
        y += tallest
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        x, y, tallest = 0, y + 1, 0
        for panel in members:
            height = 4 if panel.kind == "stat" else 8
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(panel, len(panels) + 1, {"h": height, "w": panel.width, "x": x, "y": y}))
            x, tallest = x + panel.width, max(tallest, height)
    return {
        "uid": "pooltransport",
        "title": "pooltransport: HTTP connection pools",
        "tags": ["pooltransport", "http-client"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": [_alerts()]},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {"fillOpacity": 20 if panel.stacked else 0, "showPoints": "never"}
        if panel.stacked:
            custom["stacking"] = {"mode": "normal", "group": "A"}
    overrides = [
        {
            "matcher": {"id": "byFrameRefID", "options": _letter(i)},
            "properties": [
                {"id": "custom.stacking", "value": {"mode": "none"}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
            ],
        }
        for i, target in enumerate(panel.targets)
        if target.line
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": overrides},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(target, i, panel) for i, target in enumerate(panel.targets)],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    "heatmap": {"calculate": False, "yAxis": {"unit": "s"}, "tooltip": {"mode": "single"}},
}


def _target(target: Target, number: int, panel: Panel) -> dict[str, Any]:
    return {
        "refId": _letter(number),
        "datasource": _SOURCE,
        "expr": target.expr,
        "legendFormat": target.legend or "__auto",
        "range": panel.kind != "stat",
        "instant": panel.kind == "stat",
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "exemplar": target.exemplar,
    }


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _variables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "data source", "hide": 0}
    ]
    metric = "pooltransport_connection_acquired_total"
    for name, within in (
        ("job", ""),
        ("instance", '{job=~"$job"}'),
        ("server_address", f"{{{PROCESS}}}"),
    ):
        found.append(
            {
                "name": name,
                "type": "query",
                "label": name.replace("_", " "),
                "datasource": _SOURCE,
                "query": {"query": f"label_values({metric}{within}, {name})", "refId": name},
                "definition": f"label_values({metric}{within}, {name})",
                "includeAll": True,
                "allValue": ".*",
                "multi": True,
                "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
                "refresh": 2,
                "sort": 1,
                "hide": 0,
            }
        )
    return found


def _alerts() -> dict[str, Any]:
    return {
        "name": "alerts",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": f'ALERTS{{alertname=~"PoolTransport.+",alertstate="firing",{PROCESS}}}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{server_address}}",
    }
