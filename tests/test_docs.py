# SPDX-License-Identifier: Apache-2.0
"""What the pages must say, derived from the code: every name emitted, every loss, every refusal."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from opentelemetry.sdk.metrics.export import AggregationTemporality
from tests.signals.edge_totals import NETWORK, edge_total, http, tally

from deetune_otel.export.queue import DropCause
from deetune_otel.kernel.features import Facts, judge
from deetune_otel.kernel.rungs import PARTS, Part
from deetune_otel.model import KeptBecause, Ledger, LedgerLine, Role
from deetune_otel.protocols import PROTOCOLS
from deetune_otel.signals import agent
from deetune_otel.signals.service_graph import ServiceGraphMetrics
from deetune_otel.signals.tcp import TcpMetrics
from deetune_otel.signals.traces import ParentMethod

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "deetune_otel"
NO_NAMES: Final = {"deetune.bpf.o"}  # a file
OURS: Final = re.compile(r"(?:deetune|otel|db|http|process|container)(?:\.[a-z_]+)+")
NAME: Final = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+|traces_[a-z_]+)`")
LINE: Final = LedgerLine(1, 1)


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def emitting_modules() -> Iterator[Path]:
    """What makes telemetry: neither the demo's programs nor the commands do."""
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] not in {"cli", "config", "demo", "web"}:
            yield path


def conventions_used(tree: ast.Module) -> Iterator[str]:
    """The semantic conventions' names that a module imports, directly or by their module."""
    modules: dict[str, ModuleType] = {}
    for module, name in imports(tree):
        value = getattr(module, name, None)
        if value is None:
            value = importlib.import_module(f"{module.__name__}.{name}")
        if isinstance(value, ModuleType):
            modules[name] = value
        elif isinstance(value, str):
            yield value
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = getattr(modules.get(node.value.id), node.attr, None)
            if isinstance(found, str):
                yield found


def imports(tree: ast.Module) -> Iterator[tuple[ModuleType, str]]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "opentelemetry.semconv."
        ):
            module = importlib.import_module(str(node.module))
            yield from ((module, alias.name) for alias in node.names)


def literals(tree: ast.Module) -> Iterator[str]:
    """Names that are written out: ours, and those that no convention has."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and OURS.fullmatch(node.value)
        ):
            yield node.value


@cache
def names_in_code() -> frozenset[str]:
    found: set[str] = set()
    for path in emitting_modules():
        tree = ast.parse(path.read_text())
        found.update(conventions_used(tree), literals(tree))
    return frozenset(found) - NO_NAMES


def agent_reading() -> agent.AgentReading:
    return agent.AgentReading(
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


@cache
def emitted_metrics() -> dict[str, str]:
    """Units by name, of real objects: instruments, and the agent's own metrics."""
    own = agent.build(agent_reading(), AggregationTemporality.CUMULATIVE)
    totals = [edge_total(http(tally(1), tally(1)), network=NETWORK)]
    for edges in (ServiceGraphMetrics, TcpMetrics):
        own += edges(AggregationTemporality.CUMULATIVE).build(totals, now_unix_ns=20)
    return {
        instrument.name: instrument.unit
        for module in PROTOCOLS.values()
        for role in Role
        for instrument in module.METRICS.get(role, ())
    } | {metric.name: str(metric.unit) for metric in own}


def agent_attributes() -> set[str]:
    return {
        name
        for metric in agent.build(agent_reading(), AggregationTemporality.CUMULATIVE)
        for point in metric.data.data_points
        for name in point.attributes or ()
    }


def table_names(text: str) -> set[str]:
    """The names in the first column of the page's tables."""
    return {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in NAME.findall(line.split("|")[1])
    }


def test_the_code_was_searched() -> None:
    """An empty list would satisfy every test below."""
    assert {
        "http.route",
        "error.type",
        "server.port",
        "service.name",
        "process.cpu.time",
        "deetune.kept",
        "otel.metric.overflow",
        "db.server.operation.duration",
    } <= names_in_code()
    assert "deetune.agent.lost.bytes" in emitted_metrics()


def test_every_name_in_the_code_is_on_the_page() -> None:
    said = set(NAME.findall(page("telemetry.md")))
    assert sorted(names_in_code() - said) == []


@pytest.mark.parametrize("name", sorted(emitted_metrics()))
def test_every_metric_has_a_row_with_its_unit(name: str) -> None:
    assert f"\n| `{name}` | {emitted_metrics()[name]} |" in page("telemetry.md")


def test_every_attribute_of_the_agents_metrics_is_on_the_page() -> None:
    assert sorted(agent_attributes() - set(NAME.findall(page("telemetry.md")))) == []


def test_the_pages_rows_are_emitted() -> None:
    listed = table_names(page("telemetry.md"))
    assert sorted(listed - names_in_code() - emitted_metrics().keys()) == []


@pytest.mark.parametrize("value", [*ParentMethod, *KeptBecause, *Role])
def test_the_page_explains_the_values_of_our_attributes(value: str) -> None:
    assert f"`{value}`" in page("telemetry.md")


def ledger_causes() -> Iterator[str]:
    """The lines of events.h that user space shows by name."""
    header = (ROOT / "bpf" / "include" / "events.h").read_text()
    body = re.search(r"enum dt_ledger_line \{(.*?)\n\};", header, re.DOTALL)
    assert body is not None
    for name in re.findall(r"^\tDT_(\w+) =", body[1], re.MULTILINE):
        if name not in {"SEEN", "COUNTED", "LOST_FIRST", "LEDGER_LINES"}:
            yield name.removeprefix("LOST_").lower()
    yield "undecodable"


@pytest.mark.parametrize("cause", [*ledger_causes(), *DropCause])
def test_each_loss_has_its_sentence(cause: str) -> None:
    row = re.search(
        rf"^\| `{cause}` \| (.+?) \| .*\|$", page("troubleshooting.md"), re.MULTILINE
    )
    assert row is not None, f"no row for {cause}"
    assert row[1][0].isupper()
    assert row[1].endswith(".")


def test_each_thing_that_can_be_missing_is_explained() -> None:
    facts = {
        "btf": False,
        "capabilities": frozenset[str](),
        "libbpf_version": None,
        "unprivileged_bpf_disabled": None,
        "lockdown": "confidentiality",
    }
    missing = {
        one.what
        for btf in (False, True)
        for one in judge(Facts(**{**facts, "btf": btf})).missing  # type: ignore[arg-type]
    }
    assert len(missing) >= 6
    text = page("troubleshooting.md")
    beginnings = [" ".join(what.split()[:5]) for what in missing]
    assert [one for one in beginnings if one not in text] == []


def refusals() -> Iterator[str]:
    """The fixed words of what the kernel package raises where nothing can be observed."""
    for path in sorted((SOURCE / "kernel").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"KernelUnavailable", "NothingTaken"}
            ):
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and len(str(part.value)) > 12:
                        yield str(part.value).strip(" :")


@pytest.mark.parametrize("words", sorted(set(refusals())))
def test_each_refusal_is_explained(words: str) -> None:
    assert words in page("troubleshooting.md")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.programs[0])
def test_each_program_that_may_be_refused_is_explained(part: Part) -> None:
    row = f"| {', '.join(f'`{name}`' for name in part.programs)} | "
    (said,) = (
        line for line in page("troubleshooting.md").splitlines() if line.startswith(row)
    )
    assert said.endswith(f"| {part.lost} |")
    assert ("the agent does not start" in said) == (part.essential and not part.rung)


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=str)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, heading = target.partition("#")
        page_path = path.parent / file if file else path
        assert page_path.is_file(), target
        if heading:
            assert heading in anchors(page_path.read_text()), target


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    return {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
