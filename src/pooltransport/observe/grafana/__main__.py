"""`python -m pooltransport.observe.grafana`: write the dashboard to standard output."""

import sys

from .generate import dashboard_json

if __name__ == "__main__":
    sys.stdout.write(dashboard_json())
