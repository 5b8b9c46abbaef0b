"""Alert rules for Prometheus: `pooltransport.rules.yml` as shipped; `rules()` writes them with other numbers.

``python -m pooltransport.observe.alerts --help`` tells what can be chosen; each alert has a page in docs/runbooks.
"""

from .generate import Rule, Thresholds, Times, every_rule, rules

__all__ = ["Rule", "Thresholds", "Times", "every_rule", "rules"]
