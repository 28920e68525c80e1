# SPDX-License-Identifier: Apache-2.0
"""`deetune check` on facts of many kernels, and once on this one."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from deetune_otel.cli import main
from deetune_otel.cli.check import lines, report
from deetune_otel.config import load
from deetune_otel.kernel import features
from deetune_otel.kernel.features import CAPABILITIES, TRACEPOINTS, Facts, Features

GOOD = {
    "btf": True,
    "tracepoints": frozenset(TRACEPOINTS),
    "capabilities": frozenset(CAPABILITIES),
    "libbpf_version": "v1.1",
    "unprivileged_bpf_disabled": 2,
    "lockdown": "none",
}


def features_of(**other: object) -> Features:
    return features.judge(Facts(**{**GOOD, **other}))  # type: ignore[arg-type]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Lets a test say on which machine the command runs; no file and no variable apply."""
    monkeypatch.setattr("deetune_otel.cli.settings.DEFAULT_FILE", tmp_path / "none")
    for name in ("DEETUNE_CONFIG", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def text_of(
    found: Features, yaml: str = "", environ: dict[str, str] | None = None
) -> str:
    environ = environ or {}
    return "\n".join(lines(found, load(yaml, name="f", environ=environ), environ))


def test_a_good_kernel() -> None:
    text = text_of(features_of())
    assert "  hooks         rung 1: socket tracepoints" in text
    assert "  libbpf        v1.1\n" in text
    assert "  missing       nothing\n" in text
    assert text.endswith("This machine can be observed: deetune run")


def test_what_is_missing_says_what_it_costs_and_what_to_do() -> None:
    found = features_of(btf=False, tracepoints=frozenset(), capabilities=frozenset())
    text = text_of(found)
    words = " ".join(text.split())
    assert len(found.missing) > 1
    assert f"missing {len(found.missing)} -" in words
    for one in found.missing:
        for part in (one.what, f"costs: {one.costs}", f"remedy: {one.remedy}"):
            assert " ".join(part.split()) in words
    assert "This machine cannot be observed as it is" in words


@pytest.mark.parametrize(
    ("yaml", "environ", "line"),
    [
        ("", {}, "OTLP          off: no endpoint is known"),
        (
            "otlp: {endpoint: 'http://c:4318'}",
            {},
            "OTLP          on: http://c:4318",
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:4317"},
            "OTLP          on: http://d:4317",
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d"},
            "OTLP          on: as the standard variables say",
        ),
        ("otlp: {enabled: false}", {}, "OTLP          off: otlp.enabled, f:1"),
        ("console: {enabled: true}", {}, "console       on"),
        ("web: {enabled: false}", {}, "web           off"),
        ("web: {host: '::1'}", {}, "web           on: http://[::1]:8127/"),
        ("web: {port: 80}", {}, "  port: 80  # f:1"),
    ],
)
def test_what_is_in_effect(yaml: str, environ: dict[str, str], line: str) -> None:
    assert f"\n  {line}" in text_of(features_of(), yaml, environ)


def test_the_report_for_scripts() -> None:
    found = features_of(libbpf_version=None)
    made = report(found, load("web: {port: 80}", name="f"), {})
    assert made["usable"] is False
    assert made["kernel"]["rung"] == 1
    assert made["kernel"]["release"] == platform.release()
    assert [one["fatal"] for one in made["kernel"]["missing"]] == [True]
    assert made["otlp"] == {"enabled": False}
    assert made["config"]["web.port"] == {"value": 80, "layer": "file", "where": "f:1"}
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(("libbpf", "code"), [("v1.1", 0), (None, 3)])
@pytest.mark.parametrize("argv", [["check"], ["check", "--json"]])
def test_the_exit_code_says_whether_the_machine_will_do(
    on: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    libbpf: str | None,
    code: int,
) -> None:
    on.setattr(features, "probe", lambda: features_of(libbpf_version=libbpf))
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert err == ""
    if "--json" in argv:
        assert json.loads(out)["usable"] is (code == 0)


def test_print_config_prints_what_can_be_loaded_and_asks_no_kernel(
    on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on.delattr(features, "probe")
    assert main(["check", "--print-config", "--set", "web.port=80"]) == 0
    assert load(capsys.readouterr().out).config == load(flags={"web.port": "80"}).config


def test_a_wrong_configuration_is_said_before_the_kernel_is_asked(
    on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on.delattr(features, "probe")
    assert main(["check", "--set", "web.prot=80"]) == 2
    assert "did you mean 'web.port'?" in capsys.readouterr().err


@pytest.mark.kernel
def test_this_kernel_will_do(
    on: pytest.MonkeyPatch,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "--json"]) == 0, capsys.readouterr().out
    assert json.loads(capsys.readouterr().out)["kernel"]["rung"] == 1
