# SPDX-License-Identifier: Apache-2.0
"""`deetune check`: its words for what many kernels answer, and beside `run` on this one."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.process import free_port

from deetune_otel.cli import check, main
from deetune_otel.cli.check import (
    Found,
    KernelFound,
    WaysOut,
    lines,
    not_observable,
    observable,
    report,
    ways_out,
)
from deetune_otel.config import load
from deetune_otel.kernel import (
    KernelUnavailable,
    NothingTaken,
    Outcome,
    Refusal,
    Tried,
    features,
)
from deetune_otel.kernel.features import CAPABILITIES, Facts, Features
from deetune_otel.kernel.rungs import Rung, parts_of
from deetune_otel.kernel.trying import Doing

GOOD: Final[dict[str, Any]] = {
    "btf": True,
    "capabilities": frozenset(CAPABILITIES),
    "libbpf_version": "v1.1",
    "unprivileged_bpf_disabled": 2,
    "lockdown": "none",
}
OUT: Final = WaysOut(endpoints={}, left_out={})


def known(**other: object) -> Features:
    return features.judge(Facts(**{**GOOD, **other}))


def refusal(
    program: str, doing: Doing = Doing.LOAD, number: int = 1, *log: str
) -> Refusal:
    return Refusal(
        program=program,
        doing=doing,
        reason=os.strerror(number).lower(),
        number=number,
        log=log,
    )


def tried(rung: Rung, *refused: Refusal, better: tuple[Outcome, ...] = ()) -> Tried:
    """All programs of the rung, of which these are refused."""
    by_name = {one.program: one for one in refused}
    outcomes = (
        Outcome(program=name, rung=rung, part=part, refusal=by_name.get(name))
        for part in parts_of(rung)
        for name in part.programs
    )
    return Tried(rung=rung, outcomes=(*better, *outcomes))


def outcome(one: Refusal, rung: Rung) -> Outcome:
    (part,) = (part for part in parts_of(rung) if one.program in part.programs)
    return Outcome(program=one.program, rung=rung, part=part, refusal=one)


WHOLE: Final = tried(Rung.SOCKET_TRACEPOINTS)


def taken(of: Tried = WHOLE, **other: object) -> KernelFound:
    return observable(known(**other), of, seconds=1.04)


def text_of(
    kernel: KernelFound,
    yaml: str = "",
    environ: dict[str, str] | None = None,
) -> str:
    loaded = load(yaml, name="f", environ=environ or {})
    ways = ways_out(loaded.config, environ or {})
    return "\n".join(lines(Found(ways=ways, kernel=kernel), loaded))


def words_of(kernel: KernelFound) -> str:
    return " ".join(text_of(kernel, "web: {port: 0}").split())


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Lets a test say what the kernel answers; no file and no variable apply."""
    monkeypatch.setattr("deetune_otel.cli.settings.DEFAULT_FILE", tmp_path / "none")
    for name in list(os.environ):
        if name.startswith(("DEETUNE_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DEETUNE_WEB_PORT", "0")
    return monkeypatch


# What a person reads


def test_a_kernel_that_takes_all() -> None:
    text = text_of(taken(), "web: {port: 0}")
    assert "  hooks         rung 1: socket tracepoints" in text
    number = len(WHOLE.programs)
    assert (
        f"  programs      {number} loaded, attached and let go again (1.0 s)\n" in text
    )
    assert "  libbpf        v1.1\n" in text
    assert "  missing       nothing\n" in text
    assert text.endswith("This machine can be observed: deetune run")


def test_what_explains_a_refusal_is_not_missing_where_nothing_is_refused() -> None:
    kernel = taken(
        capabilities=frozenset({"CAP_SYS_PTRACE", "CAP_SYS_ADMIN"}), btf=False
    )
    assert kernel.missing == ()


def test_a_program_that_is_refused_says_what_is_lost() -> None:
    sockets = refusal("dt_iter_sockets", Doing.ATTACH)
    kernel = taken(tried(Rung.SOCKET_TRACEPOINTS, sockets))
    words = words_of(kernel)
    assert ", 1 refused (1.0 s)" in words
    assert (
        "missing 1 - dt_iter_sockets cannot be attached: operation not permitted. costs: "
        + outcome(sockets, Rung.SOCKET_TRACEPOINTS).part.lost
    ) in words
    assert f"remedy: {sockets.hint}" in words
    assert words.endswith("This machine can be observed: deetune run")


def test_why_no_better_rung_is_taken() -> None:
    recv = Refusal(
        program="dt_sock_recv",
        doing=Doing.LOAD,
        reason="this kernel's BTF has no tracepoint sock_recv_length",
        number=3,
    )
    better = (outcome(recv, Rung.SOCKET_TRACEPOINTS),)
    kernel = taken(tried(Rung.FEXIT, better=better))
    words = words_of(kernel)
    assert "hooks rung 2: fexit programs on the socket operations" in words
    assert (
        f"not rung 1: {recv} programs {len(tried(Rung.FEXIT).programs)} loaded" in words
    )
    assert "missing nothing" in words


def test_nothing_is_taken() -> None:
    recv = refusal("dt_sock_recv", Doing.LOAD, 13, "R1 invalid mem access 'scalar'")
    error = NothingTaken(
        "The kernel refuses it:\n  rung 1: a\n  rung 2: b",
        "do this",
        (outcome(recv, Rung.SOCKET_TRACEPOINTS),),
    )
    words = words_of(not_observable(known(), error))
    assert "hooks none: nothing is taken, see below" in words
    assert "missing 1 - The kernel refuses it: rung 1: a; rung 2: b costs:" in words
    assert "remedy: do this" in words
    assert words.endswith(
        "This machine cannot be observed as it is: see what is missing, above."
    )


def test_nothing_could_be_tried() -> None:
    """What is missing explains it, with what it costs and what to do."""
    found = known(btf=False, capabilities=frozenset())
    words = words_of(not_observable(found, KernelUnavailable("refused", "hint")))
    assert "hooks none: nothing could be tried, see below" in words
    assert len(found.missing) > 1
    assert f"missing {len(found.missing)} -" in words
    for one in found.missing:
        for part in (one.what, f"costs: {one.costs}", f"remedy: {one.remedy}"):
            assert " ".join(part.split()) in words
    assert "refused" not in words


NO_ENDPOINT: Final = (
    "not over OTLP: no endpoint is known (otlp.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT)"
)


@pytest.mark.parametrize(
    ("yaml", "environ", "line"),
    [
        ("", {}, f"spans         {NO_ENDPOINT}"),
        ("", {}, f"metrics       {NO_ENDPOINT}"),
        (
            "otlp: {endpoint: 'http://c:4318'}",
            {},
            "spans         http://c:4318/v1/traces (http/protobuf)",
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://d:4317"},
            "metrics       http://d:4317 (grpc)",
        ),
        (
            "otlp: {endpoint: 'http://c:4318'}",
            {"OTEL_METRICS_EXPORTER": "none"},
            "metrics       not over OTLP: OTEL_METRICS_EXPORTER=none",
        ),
        (
            "otlp: {enabled: false}",
            {},
            "spans         not over OTLP: otlp.enabled is false",
        ),
        (
            "otlp: {endpoint: 'http://c:4318'}\nspans: {enabled: false}",
            {},
            "spans         none: spans.enabled is false",
        ),
        (
            "console: {enabled: true}",
            {},
            f"metrics       the console\n                {NO_ENDPOINT}",
        ),
        ("web: {enabled: false}", {}, "web           off"),
        ("web: {host: '::1', port: 0}", {}, "web           http://[::1]:0/"),
        ("web: {port: 0}", {}, "  port: 0  # f:1"),
    ],
)
def test_what_is_in_effect(yaml: str, environ: dict[str, str], line: str) -> None:
    yaml = yaml if "web" in yaml else f"{yaml}\nweb: {{enabled: false}}"
    assert f"\n  {line}" in text_of(taken(), yaml, environ)


def test_a_port_that_is_taken_is_said_and_no_mistake() -> None:
    """An agent may be running with these very settings."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = text_of(taken(), f"web: {{port: {port}}}")
    assert "taken now: another agent may run, or set web.port" in text


# For scripts


def test_the_report_for_scripts() -> None:
    sockets = refusal("dt_iter_sockets", Doing.LOAD, 13, "a", "b")
    kernel = taken(tried(Rung.SOCKET_TRACEPOINTS, sockets))
    loaded = load("web: {port: 80}", name="f")
    made = report(Found(ways=OUT, kernel=kernel), loaded)
    assert made["usable"] is True
    assert made["kernel"]["rung"] == 1
    assert made["kernel"]["release"] == platform.release()
    (left,) = (one for one in made["kernel"]["programs"] if not one["taken"])
    assert left == {
        "name": "dt_iter_sockets",
        "rung": 1,
        "essential": False,
        "taken": False,
        "refused": {"why": str(sockets), "errno": 13, "log": ["a", "b"]},
        "lost": outcome(sockets, Rung.SOCKET_TRACEPOINTS).part.lost,
    }
    whole = {"refused": None, "lost": None, "taken": True}
    for one in made["kernel"]["programs"]:
        assert one is left or one == {**one, **whole}
    assert [one["fatal"] for one in made["kernel"]["missing"]] == [False]
    assert made["config"]["web.port"] == {"value": 80, "layer": "file", "where": "f:1"}
    assert json.loads(json.dumps(made)) == made


def test_the_report_where_nothing_could_be_tried() -> None:
    kernel = not_observable(known(libbpf_version=None), KernelUnavailable("no", "hint"))
    made = report(Found(ways=OUT, kernel=kernel), load())
    assert made["usable"] is False
    assert (made["kernel"]["rung"], made["kernel"]["programs"]) == (None, [])
    assert [one["fatal"] for one in made["kernel"]["missing"]] == [True]
    assert "libbpf.so.1" in made["kernel"]["missing"][0]["what"]


# The command


@pytest.mark.parametrize("argv", [["check"], ["check", "--json"]])
@pytest.mark.parametrize("is_usable", [True, False])
def test_the_exit_code_says_whether_the_machine_will_do(
    on: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    *,
    is_usable: bool,
) -> None:
    kernel = taken() if is_usable else replace(taken(), tried=None)
    on.setattr(check, "try_kernel", lambda _: kernel)
    assert main(argv) == (0 if is_usable else 3)
    out, err = capsys.readouterr()
    assert err == ""
    if "--json" in argv:
        assert json.loads(out)["usable"] is is_usable


def test_print_config_prints_what_can_be_loaded_and_asks_no_kernel(
    on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on.delattr(check, "try_kernel")
    assert main(["check", "--print-config", "--set", "web.port=80"]) == 0
    assert load(capsys.readouterr().out).config == load(flags={"web.port": "80"}).config


# Mistakes: `run` says of them what `check` says, and before anything is loaded

MISTAKES: Final = [
    (["web.prot=80"], "", "did you mean 'web.port'?"),
    (
        ["routes.patterns=['/{user}s/lists']"],
        "",
        "routes.patterns[0]: '/{user}s/lists':",
    ),
    (
        ["topology.peers=['http://a..b:8127']"],
        "",
        "topology.peers[0]: 'http://a..b:8127'",
    ),
    (["topology.peers=['http://h:99999']"], "", "topology.peers[0]: 'http://h:99999'"),
    (["topology.zones={10.1.0.1/16: eu}"], "", "topology.zones: "),
    (["web.host=http://127.0.0.1"], "", "web.host: 'http://127.0.0.1' is no address"),
    (["web.host=a..b"], "", "web.host: 'a..b' is no address"),
    ([f"recording.socket=/{'s' * 120}"], "", "recording.socket: a socket's path has"),
    (
        ["recording.flight=true", "recording.flight_redaction=/no/such.yaml"],
        "",
        "cannot read the policy /no/such.yaml",
    ),
    (
        ["recording.flight=true", f"recording.flight_folder={__file__}/flights"],
        "",
        f"recording.flight_folder {__file__}/flights: not a directory",
    ),
    (
        ["otlp.endpoint=127.0.0.1:4318"],
        "",
        "otlp.endpoint: '127.0.0.1:4318' must begin",
    ),
    (
        ["otlp.endpoint=http://a..b:4318"],
        "",
        "otlp.endpoint: 'http://a..b:4318': 'a..b'",
    ),
    (
        ["otlp.certificate=/no/such.pem"],
        "https://127.0.0.1:4318",
        "otlp.certificate: /no/such.pem: No such file",
    ),
    ([], '"http://127.0.0.1:4318"', "OTEL_EXPORTER_OTLP_ENDPOINT: "),
]


@pytest.mark.parametrize(("settings", "endpoint", "said"), MISTAKES)
def test_a_mistake_is_refused_before_the_kernel_is_asked(
    on: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    endpoint: str,
    said: str,
) -> None:
    """By `check`, and by `run` in the same words."""
    on.delattr(check, "try_kernel")
    if endpoint:
        on.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    flags = [word for one in settings for word in ("--set", one)]
    assert main(["check", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "should not happen" not in err
    run = subprocess.run(
        [sys.executable, "-m", "deetune_otel", "run", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 2
    lines_of_run = [one for one in run.stderr.splitlines() if "level=" not in one]
    assert lines_of_run == err.splitlines()


@pytest.mark.kernel
def test_an_address_of_another_machine_is_refused(
    on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run` finds that out at the end of its start."""
    del on
    argv = ["--set", "web.host=192.0.2.1"]  # for documentation: nobody's
    assert main(["check", *argv]) == 1
    said = capsys.readouterr().err.splitlines()[0]
    assert "cannot listen on 192.0.2.1" in said
    run = subprocess.run(
        [sys.executable, "-m", "deetune_otel", "run", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 1
    assert said in run.stderr


@pytest.mark.kernel
def test_this_kernel_will_do_and_nothing_stays(
    on: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A Collector hears nothing of it; the port is free, and no folder was made."""
    before = bpf_files()
    with socket.create_server(("127.0.0.1", 0)) as collector:
        collector.settimeout(0)
        port, flights = free_port(), tmp_path / "a" / "flights"
        on.setenv("DEETUNE_WEB_PORT", str(port))
        flags = [
            f"otlp.endpoint=http://127.0.0.1:{collector.getsockname()[1]}",
            "recording.flight=true",
            f"recording.flight_folder={flights}",
            f"recording.socket={tmp_path}/control.sock",
        ]
        argv = [word for one in flags for word in ("--set", one)]
        assert main(["check", "--json", *argv]) == 0
        with pytest.raises(BlockingIOError):
            collector.accept()
    said = json.loads(capsys.readouterr().out)
    assert said["kernel"]["rung"] in set(Rung)
    assert said["endpoints"].keys() == {"spans", "metrics"}
    assert list(tmp_path.iterdir()) == []
    with socket.create_server(("127.0.0.1", port)):
        assert bpf_files() == before


def bpf_files() -> list[str]:
    """Programs, maps and links that this process holds."""
    kinds = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            kinds.append(str(one.readlink()))
    return sorted(one for one in kinds if "bpf" in one)
