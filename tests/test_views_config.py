# SPDX-License-Identifier: Apache-2.0
"""Rules, alerts and the dashboard say what exists: metrics, runbooks, variables, valid PromQL."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from opentelemetry.sdk.metrics.export import AggregationTemporality
from tests.backends.build import binary
from tests.export.parsers import parse_text
from tests.signals.edge_totals import NETWORK, edge_total, http, tally
from tests.views import (
    RULES,
    RULES_TEST,
    Query,
    dashboard,
    metrics_in,
    queries,
    rules,
)

from deetune_otel.export.prometheus import Exposition
from deetune_otel.model import Ledger, LedgerLine, Service
from deetune_otel.signals import agent, metrics
from deetune_otel.signals.red import Accumulators
from deetune_otel.signals.resource import Resources
from deetune_otel.signals.service_graph import ServiceGraphMetrics
from deetune_otel.signals.tcp import TcpMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS: Final = Path(__file__).parents[1] / "docs"
CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
LINE: Final = LedgerLine(1, 1)
ALERTS: Final = [rule for rule in rules() if "alert" in rule]
RECORDS: Final = [rule for rule in rules() if "record" in rule]


def promtool(*arguments: str | Path) -> str:
    """Run it; AssertionError with its words unless it is content."""
    done = subprocess.run(
        [binary("prometheus", "promtool"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def names_on_the_page() -> set[str]:
    """Every series of the agent's own and of edges, as Prometheus sees them."""
    reading = agent.AgentReading(
        start_unix_ns=1,
        time_unix_ns=2,
        ledger=Ledger(
            seen=LINE, counted=LINE, open=LINE, lost={"x": LINE}, noted={"x": LINE}
        ),
        rung=1,
        dropped={"spans": 1},
        program_runs={"x": 1},
        program_time_ns={"x": 1},
    )
    totals = [edge_total(http(tally(1), tally(1)), network=NETWORK)]
    made = [
        *agent.build(reading, CUMULATIVE),
        *ServiceGraphMetrics(CUMULATIVE).build(totals, now_unix_ns=20),
        *TcpMetrics(CUMULATIVE).build(totals, now_unix_ns=20),
    ]
    data = metrics.build(
        Accumulators(start_unix_ns=1).collect(CUMULATIVE),
        resources=Resources("1"),
        more=[(Service(name="deetune"), made)],
    )
    page = b"".join(Exposition(lambda: data).written()[1]).decode()
    return {sample.name for family in parse_text(page) for sample in family.samples}


def test_names_are_found_in_promql() -> None:
    """Or the tests below would be content with anything."""
    promql = (
        'sum by (a, b) (rate(x_total{l=~"y"}[5m])) / on (a) group_left () z:y'
        ' offset 1h > 0.1 unless on () label_join(w, "id", "/", "k")'
    )
    assert metrics_in(promql) == {"x_total", "z:y", "w"}


@pytest.mark.parametrize("rule", rules(), ids=lambda r: r.get("alert") or r["record"])
def test_rules_read_what_is_emitted(
    rule: dict[str, Any], names_on_the_page: set[str]
) -> None:
    known = names_on_the_page | {one["record"] for one in RECORDS} | {"ALERTS"}
    assert metrics_in(rule["expr"]) <= known


@pytest.mark.parametrize("query", queries(), ids=lambda q: f"{q.panel} {q.ref}")
def test_the_dashboard_reads_what_is_emitted(
    query: Query, names_on_the_page: set[str]
) -> None:
    found = metrics_in(query.promql)
    assert found
    assert found <= names_on_the_page | {"ALERTS"}
    assert "$" not in query.promql


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket", "info"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    anchor = alert["alert"].lower()
    assert alert["annotations"]["runbook_url"] == f"docs/alerts.md#{anchor}"
    text = (DOCS / "alerts.md").read_text()
    assert f"\n## {alert['alert']}\n\n*{alert['labels']['severity']}.*" in text


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_is_seen_firing(alert: dict[str, Any]) -> None:
    fired = set()
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for one in test.get("alert_rule_test", ()):
            fired.update([one["alertname"]] if one["exp_alerts"] else [])
        for one in test.get("promql_expr_test", ()):
            for sample in one["exp_samples"]:
                fired.update(re.findall(r'alertname="(\w+)"', sample["labels"]))
    assert alert["alert"] in fired


def test_the_page_names_no_alert_that_there_is_not() -> None:
    headings = re.findall(r"^## (\w+)$", (DOCS / "alerts.md").read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("rule", RECORDS, ids=lambda rule: rule["record"])
def test_what_is_recorded_is_on_the_page(rule: dict[str, Any]) -> None:
    name = rule["record"]
    text = (DOCS / "alerts.md").read_text()
    assert f"`{name}`" in text or f"…:{name.rpartition(':')[2]}`" in text


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for a, b in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)
        assert a["x"] + a["w"] <= 24


def targets() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel, target


def test_every_query_goes_to_the_chosen_prometheus() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel, target in targets():
        assert panel["datasource"] == target["datasource"] == source
        refs = [one["refId"] for one in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_every_variable_is_defined_and_used() -> None:
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = {"datasource"}
    for _, target in targets():
        used |= set(re.findall(r"\$(?!__)(\w+)", target["expr"]))
    assert used == defined


def test_the_map_has_what_a_node_graph_needs() -> None:
    """`id` for nodes; `id`, `source`, `target` for edges; the number is called `mainstat`."""
    [panel] = [one for one in dashboard()["panels"] if one["type"] == "nodeGraph"]
    nodes, edges = panel["targets"]
    assert nodes["expr"].startswith("sum by (id, title, subtitle) ")
    assert edges["expr"].startswith("sum by (id, source, target) ")
    assert {one["format"] for one in panel["targets"]} == {"table"}
    [organize] = panel["transformations"]
    assert organize["options"]["renameByName"] == {
        "Value #nodes": "mainstat",
        "Value #edges": "mainstat",
    }


@pytest.mark.e2e
def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


@pytest.mark.e2e
def test_promtool_sees_the_rules_do_what_they_should() -> None:
    promtool("test", "rules", RULES_TEST)


@pytest.mark.e2e
def test_promtool_parses_the_dashboards_queries(tmp_path: Path) -> None:
    """As rules: promtool has no other way to check an expression."""
    as_rules = [
        {"record": f"query:number{number}", "expr": query.promql}
        for number, query in enumerate(queries())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(
        yaml.safe_dump({"groups": [{"name": "queries", "rules": as_rules}]})
    )
    assert f"{len(as_rules)} rules found" in promtool("check", "rules", file)
