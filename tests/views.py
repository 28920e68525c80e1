# SPDX-License-Identifier: Apache-2.0
"""What config/ offers to Prometheus and Grafana: rules, alerts, and a dashboard's queries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

__all__ = [
    "RULES",
    "RULES_TEST",
    "Query",
    "dashboard",
    "hurried_rules",
    "metrics_in",
    "queries",
    "rules",
]

CONFIG: Final = Path(__file__).resolve().parents[1] / "config"
RULES: Final = CONFIG / "prometheus" / "rules.yaml"
RULES_TEST: Final = CONFIG / "prometheus" / "rules.test.yaml"
DASHBOARD: Final = CONFIG / "grafana" / "deetune.json"

# Grafana's own, and what "All" of a variable stands for.
_CHOSEN: Final = {"$__rate_interval": "5m"}
_ALL: Final = ".*"

# Words before "(" are functions, those within braces or after by/on labels.
_NOT_METRICS: Final = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|on|group_left|without)\s*\([^)]*\)'
)
_METRIC: Final = re.compile(r"\b[a-zA-Z_][a-zA-Z0-9_:]*\b(?!\s*\()")
_WORDS: Final = frozenset(
    {"and", "or", "unless", "by", "on", "offset", "without", "group_left"}
)


class Query(NamedTuple):
    """One PromQL expression of the dashboard, as Grafana sends it."""

    panel: str
    ref: str
    promql: str


def rules() -> list[dict[str, Any]]:
    """Recording rules and alerts, in the order of the file."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return board


def queries() -> list[Query]:
    """Every expression, with all of every variable chosen."""
    board = dashboard()
    chosen = dict(_CHOSEN)
    for variable in board["templating"]["list"]:
        chosen[f"${variable['name']}"] = _ALL
    found = []
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            promql = target["expr"]
            for name in sorted(chosen, key=len, reverse=True):
                promql = promql.replace(name, chosen[name])
            found.append(Query(panel["title"], target["refId"], promql))
    return found


def metrics_in(promql: str) -> set[str]:
    """The names of the series that an expression reads."""
    rest = _NOT_METRICS.sub(" ", promql)
    rest = re.sub(r"\boffset\s+\w+", " ", rest)
    return {name for name in _METRIC.findall(rest) if name not in _WORDS}


def hurried_rules(folder: Path) -> Path:
    """A copy of the rules whose alerts do not wait; every expression is as it is shipped."""
    groups = yaml.safe_load(RULES.read_text())
    for group in groups["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    file = folder / RULES.name
    file.write_text(yaml.safe_dump(groups))
    return file
