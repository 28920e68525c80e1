# SPDX-License-Identifier: Apache-2.0
"""`deetune top` in a real terminal and in pipes, against a server that plays an agent."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from tests.cli.tty import Tty
from tests.process import free_port
from tests.topology import maps
from tests.topology.maps import calls, edge, network, node, service_map
from tests.web.serving import serving

from deetune_otel.model import Protocol
from deetune_otel.topology.carry import to_json
from deetune_otel.topology.model import (
    EdgeDetails,
    Example,
    History,
    NodeDetails,
    Operation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.web.serving import Answer

    from deetune_otel.topology.model import ServiceMap

COMMAND = [sys.executable, "-m", "deetune_otel", "top"]
NGINX, SHOP, ORDERS = "service:/nginx", "service:/shop", "service:/orders"
REDIS, PAY, EVIL = "service:/redis", "name:pay.example:443", "service:/e\x1b[2Jvil"
MAP = service_map(
    [
        edge(NGINX, SHOP, calls(6000, each_s=0.004)),
        edge(SHOP, ORDERS, calls(200, errors=100, each_s=0.03)),
        edge(ORDERS, REDIS, calls(900, protocol=Protocol.REDIS)),
        edge(SHOP, EVIL, calls(1, errors=1, each_s=0.7)),
        edge(SHOP, PAY, network=network(3, connect_failures={"ECONNREFUSED": 12})),
    ],
    [
        node(NGINX),
        node(SHOP, served=(calls(6000, each_s=0.004),)),
        node(ORDERS, served=(calls(200, errors=90, each_s=0.03),)),
        node(REDIS, served=(calls(900, protocol=Protocol.REDIS),)),
        node(PAY),
        node(EVIL),
    ],
)
TRACE = "0af7651916cd43dd8448eb211c80319c"
EXAMPLE = Example(
    trace_id=TRACE,
    span_id="b7ad6b7169203331",
    time_unix_ns=MAP.time_unix_ns,
    duration_s=0.031,
    operation="POST /orders",
    role="client",
    result="503",
    is_error=True,
)
OPERATIONS = (
    Operation(name="POST /orders", protocol=Protocol.HTTP, calls=maps.tally(150)),
    Operation(name="GET /orders/{id}", protocol=Protocol.HTTP, calls=maps.tally(50)),
)
HISTORY = History(
    step_s=5, end_unix_ns=MAP.time_unix_ns, rate=(1.0, 4.0, 8.0), p99_s=(None, 0.1, 0.2)
)


class Agent:
    """What it answers can be changed while it is asked."""

    def __init__(self, shown: ServiceMap) -> None:
        self.map = shown
        self.asked: list[str] = []

    def __call__(self, target: str) -> Answer:
        self.asked.append(target)
        parts = urlsplit(target)
        wanted = parse_qs(parts.query).get("id", [""])[0]
        match parts.path:
            case "/status":
                return self._body({"ledger": {}})
            case "/api/map":
                return self._body(to_json(self.map))
            case "/api/edge":
                (found,) = (one for one in self.map.edges if one.id == wanted)
                return self._body(
                    to_json(
                        EdgeDetails(
                            edge=found,
                            operations=OPERATIONS,
                            history=HISTORY,
                            examples=(EXAMPLE, replace(EXAMPLE, is_error=False)),
                        ),
                        window_s=60,
                    )
                )
            case _:
                (of,) = (one for one in self.map.nodes if one.id == wanted)
                return self._body(
                    to_json(
                        NodeDetails(
                            node=of,
                            operations=OPERATIONS if wanted == ORDERS else (),
                            history=HISTORY,
                            examples=(EXAMPLE,),
                            callers=(f"{SHOP}→{ORDERS}",),
                            callees=(f"{ORDERS}→{REDIS}",),
                        ),
                        window_s=60,
                    )
                )

    def _body(self, document: object) -> Answer:
        return 200, json.dumps(document).encode()


@pytest.fixture
def agent() -> Agent:
    return Agent(MAP)


@pytest.fixture
def url(agent: Agent) -> Iterator[str]:
    with serving(agent) as url:
        yield url


@contextmanager
def top(url: str, *more: str, **how: Any) -> Iterator[Tty]:
    with Tty([*COMMAND, "--url", url, "--every", "0.2", *more], **how) as tty:
        tty.wait("edges")
        yield tty


def shown_rows(tty: Tty) -> list[str]:
    """The clients' and servers' names, as they stand."""
    return [
        " ".join(line.split("→")[0].split() + line.split("→")[1].split()[:1])
        for line in tty.lines[3:]
        if "→" in line and "sort" not in line
    ]


def test_what_is_broken_stands_first_and_a_single_failure_does_not(url: str) -> None:
    with top(url) as tty:
        tty.wait("pay.example")
        assert shown_rows(tty) == [
            "shop pay.example:443",  # no connect at all comes through
            "shop orders",
            "shop e�[2Jvil",  # 1 of 1
            "nginx shop",
            "orders redis",
        ]
        assert "12" in tty.text
        assert b"\x1b[2Jvil" not in tty.sent
        assert tty.has_colours


def test_keys_change_the_order(url: str) -> None:
    with top(url) as tty:
        tty.wait("nginx")
        tty.type("t")
        tty.wait(lambda: shown_rows(tty)[0] == "nginx shop")
        assert "req/s▼" in tty.text
        tty.type("r")
        tty.wait(lambda: shown_rows(tty)[-1] == "nginx shop")
        tty.type("\x1b[C\x1b[C")  # right: errors, mean
        tty.wait("mean▼")
        assert shown_rows(tty)[0] == "shop e�[2Jvil"


def test_the_filter_works_as_it_is_typed(url: str) -> None:
    with top(url) as tty:
        tty.wait("nginx")
        tty.type("/redIS")
        tty.wait(lambda: shown_rows(tty) == ["orders redis"])
        tty.type("\x7f\x7fq\n")  # q belongs to the text
        tty.wait("filter: redq")
        assert shown_rows(tty) == []
        tty.type("\x1b")
        tty.wait(lambda: len(shown_rows(tty)) == 5)
        tty.type("/econn\n")  # an errno too
        tty.wait(lambda: shown_rows(tty) == ["shop pay.example:443"])


def test_details_of_the_selected_row(url: str) -> None:
    with top(url) as tty:
        tty.wait("orders")
        tty.type("\x1b[B\x1bOB")
        tty.wait(lambda: "orders" in tty.reversed_line())
        tty.type("\r")
        tty.wait("GET /orders/{id}")
        assert re.search(rf"503 31 ms POST /orders +{TRACE}", tty.text)
        assert "seen at both ends" in tty.text
        assert tty.text.count("503") == 1  # the one that went well is no failure
        tty.type("\x1b[A")
        tty.wait("12 failed: ECONNREFUSED")
        tty.type("\x1b")
        tty.wait(lambda: "ECONNREFUSED" not in tty.text)


def test_the_selection_stays_with_its_row(agent: Agent, url: str) -> None:
    with top(url, "--sort", "rate") as tty:
        tty.wait("nginx")
        tty.type("\x1b[F")
        tty.wait(lambda: "pay.example" in tty.reversed_line())
        last = tty.lines.index(tty.reversed_line())
        busy = edge(SHOP, PAY, calls(90_000))
        others = tuple(one for one in MAP.edges if one.server != PAY)
        agent.map = service_map([*others, busy], MAP.nodes)
        tty.wait(lambda: "1,500" in tty.reversed_line())
        assert tty.lines.index(tty.reversed_line()) < last


def test_services_and_operations(url: str) -> None:
    with top(url) as tty:
        tty.wait("nginx")
        tty.type("b")
        tty.wait("service  ")
        tty.wait("45.0 %")
        tty.type("b")
        tty.wait("POST /orders")
        assert "GET /orders/{id}" in tty.text
        tty.type("\x1b[B\n")
        tty.wait("called by shop · calls redis")


def test_a_longer_window_is_asked_for(agent: Agent, url: str) -> None:
    with top(url) as tty:
        tty.type("+")
        tty.wait(lambda: any("window=300" in one for one in agent.asked))


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (60, 12), (40, 8), (20, 3)])
def test_it_follows_the_size_of_the_terminal(
    url: str, columns: int, lines: int
) -> None:
    with top(url, columns=140, lines=40) as tty:
        tty.wait("bytes/s")
        tty.resize(columns, lines)
        tty.wait(lambda: "bytes/s" not in tty.text and tty.lines[-1].startswith("↑↓"))
        if lines > 4:
            assert "errors" in tty.text
            assert "nginx" in tty.text or "more" in tty.text
        tty.resize(140, 40)
        tty.wait("bytes/s")
        tty.wait(lambda: len(shown_rows(tty)) == 5)


def test_at_80_columns_names_and_the_main_numbers_can_be_read(url: str) -> None:
    with top(url, columns=80, lines=24) as tty:
        tty.wait("redis")
        row = next(line for line in tty.lines if line.startswith("orders"))
        assert " ".join(row.split()) == "orders → redis redis 15.0 0 % 20 ms 25 ms"


def test_what_does_not_fit_is_said_and_can_be_reached(agent: Agent, url: str) -> None:
    many = [edge(NGINX, f"name:server-{i:03}:80", calls(900 - i)) for i in range(300)]
    agent.map = service_map(many, [node(one.server) for one in many] + [node(NGINX)])
    with top(url, "--sort", "rate", columns=80, lines=24) as tty:
        tty.wait("server-018")
        assert "… 281 more" in tty.text
        tty.type("\x1b[F")
        tty.wait("server-299")
        assert "server-299" in tty.reversed_line()
        assert "more" not in tty.text
        tty.type("\x1b[5~\x1b[H")
        tty.wait("server-000")


def test_an_agent_that_goes_away_and_comes_back(agent: Agent) -> None:
    port = free_port()
    with Tty([*COMMAND, "--url", f"http://127.0.0.1:{port}", "--every", "0.2"]) as tty:
        assert tty.ended() == 1  # never was there
        assert "nothing listens there" in tty.text
    with ExitStack() as stack:
        with serving(agent, port=port) as url:
            tty = stack.enter_context(top(url))
            tty.wait("nginx")
        tty.wait("nothing listens there")
        assert "the last rows are shown" in tty.text
        assert len(shown_rows(tty)) == 5
        with serving(agent, port=port):
            tty.wait(lambda: "nothing listens" not in tty.text)
            assert len(shown_rows(tty)) == 5
            tty.type("q")
            assert tty.ended() == 0


def end_by_key(tty: Tty) -> None:
    tty.type("q")


def end_by_ctrl_c(tty: Tty) -> None:
    tty.type("\x03")


def end_by_sigterm(tty: Tty) -> None:
    tty.signal(signal.SIGTERM)


def end_by_hangup(tty: Tty) -> None:
    tty.signal(signal.SIGHUP)


@pytest.mark.parametrize(
    "end", [end_by_key, end_by_ctrl_c, end_by_sigterm, end_by_hangup]
)
def test_it_leaves_the_terminal_as_it_was(url: str, end: Callable[[Tty], None]) -> None:
    with top(url) as tty:
        assert tty.mode != tty.mode_before
        end(tty)
        assert tty.ended() == 0
        assert_left(tty)


def test_a_crash_leaves_the_terminal_as_it_was_too(url: str) -> None:
    crash = (
        "import deetune_otel.cli.top as top, deetune_otel.cli as cli\n"
        "drawn = top.screen\n"
        "def screen(state, *rest, **more):\n"
        "    if state.has_help: raise RuntimeError('out of paper')\n"
        "    return drawn(state, *rest, **more)\n"
        "top.screen = screen\n"
        f"raise SystemExit(cli.main(['top', '--url', '{url}']))\n"
    )
    with Tty([sys.executable, "-c", crash]) as tty:
        tty.wait("nginx")
        tty.type("?")
        assert tty.ended() == 1
        assert_left(tty)
        assert "out of paper" in tty.text


def assert_left(tty: Tty) -> None:
    assert tty.mode == tty.mode_before
    assert tty.sent.count(b"\x1b[?1049h") == tty.sent.count(b"\x1b[?1049l") == 1
    assert tty.sent.rindex(b"\x1b[?25h") > tty.sent.rindex(b"\x1b[?25l")
    assert b"Traceback" not in tty.sent


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(url: str) -> None:
    with top(url) as tty:
        tty.wait("nginx")
        in_use = tty.mode
        tty.type("\x1a")
        process = psutil.Process(tty.process.pid)
        tty.wait(lambda: process.status() == psutil.STATUS_STOPPED)
        tty.wait(lambda: tty.sent.endswith(b"\x1b[?1049l"))
        assert tty.mode == tty.mode_before
        tty.signal(signal.SIGCONT)
        tty.wait(lambda: tty.sent.count(b"\x1b[?1049h") == 2)
        tty.wait("nginx")
        assert tty.mode == in_use


def test_only_what_changed_is_sent(agent: Agent, url: str) -> None:
    with top(url) as tty:
        tty.wait("nginx")
        tty.type("?")
        tty.wait("any key: back")
        tty.type("x")
        tty.wait("nginx")
        size, asked = len(tty.sent), len(agent.asked)
        tty.wait(lambda: len(agent.asked) > asked + 3)
        assert len(tty.sent) == size
        tty.type("\x1b[B")
        tty.wait(tty.reversed_line)
        assert b"nginx" not in tty.sent[size:]


def test_no_color(url: str) -> None:
    with top(url, env={"NO_COLOR": "1"}) as tty:
        tty.wait("nginx")
        tty.type("\x1b[B")
        tty.wait(tty.reversed_line)
        assert not tty.has_colours


def test_help_lists_the_keys(url: str) -> None:
    with top(url, columns=80, lines=24) as tty:
        tty.type("?")
        tty.wait("any key: back")
        assert "q, Ctrl-C" in tty.text


def run(*argv: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *argv],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **how,
    )


def test_once(url: str) -> None:
    done = run("--url", url, "--once")
    assert done.returncode == 0, done.stderr
    head, titles, *found = done.stdout.splitlines()
    assert head == "a · last 60 s · 6 nodes, 5 edges"
    assert titles.endswith("resent  bytes/s")
    assert "errors▼" in titles
    assert [line.split()[0] for line in found] == ["shop"] * 3 + ["nginx", "orders"]
    assert "\x1b" not in done.stdout


def test_once_as_json(url: str) -> None:
    done = run("--url", url, "--once", "--json", "--sort", "rate", "--filter", "SHOP")
    document = json.loads(done.stdout)
    assert document["window_s"] == 60
    rows = document["rows"]
    assert [(one["client"], one["server"]) for one in rows[:2]] == [
        ("nginx", "shop"),
        ("shop", "orders"),
    ]
    assert len(rows) == 4
    assert rows[0]["rate"] == 100
    assert rows[1]["error_ratio"] == 0.5
    assert rows[3]["connect_failures"] == {"ECONNREFUSED": 12}
    assert rows[3]["p99_s"] is None
    assert rows[3]["id"] == f"{SHOP}→{PAY}"


@pytest.mark.parametrize(
    ("by", "first"),
    [
        ("service", {"service": "orders", "count": 200, "errors": 90}),
        ("operation", {"service": "orders", "operation": "POST /orders", "count": 150}),
    ],
)
def test_json_by(url: str, by: str, first: dict[str, Any]) -> None:
    done = run("--url", url, "--once", "--json", "--by", by, "--filter", "orders")
    assert first.items() <= json.loads(done.stdout)["rows"][0].items()


def test_json_goes_on_and_waits_for_an_agent_that_is_away(agent: Agent) -> None:
    port = free_port()
    command = [
        *COMMAND,
        "--url",
        f"http://127.0.0.1:{port}",
        "--json",
        "--every",
        "0.1",
    ]
    with ExitStack() as stack:
        with serving(agent, port=port):
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(2):
                assert len(json.loads(process.stdout.readline())["rows"]) == 5
        assert "nothing listens there" in process.stderr.readline()
        agent.map = service_map()
        with serving(agent, port=port):
            while json.loads(process.stdout.readline())["rows"]:
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_a_reader_that_goes_away_ends_it(url: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "--url", url, "--json", "--every", "0.1"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0


def test_without_a_terminal_it_says_what_to_do(url: str) -> None:
    done = run("--url", url)
    assert done.returncode == 2
    assert "ssh -t" in done.stderr
    assert "--once" in done.stderr


def test_a_terminal_that_cannot_move_its_cursor(url: str) -> None:
    with Tty([*COMMAND, "--url", url], env={"TERM": "dumb"}) as tty:
        assert tty.ended() == 2
        assert "--once" in tty.text
