"""A dashboard for Grafana: `pooltransport.json`, to import as it is; `generate.py` writes it."""

from .generate import dashboard, dashboard_json

__all__ = ["dashboard", "dashboard_json"]
