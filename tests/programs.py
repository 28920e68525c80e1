# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs that make real traffic, each of which says itself how much it was.

Servers: nginx (its own counter and its log), Redis (its own statistics), a threaded and an
asyncio service in Python. Load: wrk, redis-benchmark, a sequential client. All on free ports
of loopback, with their files in the test's folder.

What counts as truth, and why:
- nginx: `requests()` is its shared counter, one for every request of which it read a byte;
  `answered()` is its access log by status, complete once it has as many lines.
- Redis: `calls()` is `INFO commandstats`, every command executed or refused, with INFO's own
  calls left out.
- wrk: `requests` is the number of responses that its parser completed. What it had sent and
  not yet got when its time was over is in nginx's count, and not in wrk's. When it cuts a
  pipeline, nginx logs responses that it could not write any more, and never begins others
  that it has read: for an exact count of pipelines there is `pipelined`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.apps.resp import Connection
from tests.backends.fetch import get
from tests.process import Child, answers, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Client",
    "Nginx",
    "PythonService",
    "Redis",
    "WrkResult",
    "pipelined",
    "program",
    "redis_benchmark",
    "wrk",
]

APPS: Final = Path(__file__).resolve().parent / "apps"
IMPORTS: Final = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}

NGINX_CONF: Final = """\
daemon off;
user root;
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    log_format count '$status';
    access_log requests.log count buffer=64k flush=100ms;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_next_upstream off;
    {upstreams}
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{ return 200 "ok\\n"; }}
        location = /missing {{ return 404; }}
        {locations}
    }}
    server {{
        listen 127.0.0.1:{status_port};
        access_log off;
        location / {{ stub_status; }}
    }}
}}
"""


def program(name: str, package: str) -> Path:
    """Find an installed program; AssertionError that names Debian's package."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    assert found is not None, f"{name} is not installed (Debian's package: {package})"
    return Path(found)


class Nginx(Child):
    """One nginx; `/` answers 200 "ok", `/missing` 404, further prefixes are passed on."""

    port: int
    status_port: int
    _requests_log: Path
    _asked: int

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        workers: int = 2,
        upstreams: Mapping[str, int] | None = None,
    ) -> Self:
        """`upstreams`: port by path prefix ("/orders/"), connections kept alive."""
        port, status_port = free_port(), free_port()
        conf = folder / "nginx.conf"
        conf.write_text(
            NGINX_CONF.format(
                workers=workers,
                port=port,
                status_port=status_port,
                upstreams="\n    ".join(
                    f"upstream u{number} {{ server 127.0.0.1:{to}; keepalive 16; }}"
                    for number, to in enumerate((upstreams or {}).values())
                ),
                locations="\n        ".join(
                    f"location {prefix} {{ proxy_pass http://u{number}; }}"
                    for number, prefix in enumerate(upstreams or ())
                ),
            )
        )
        self = cls(
            [program("nginx", "nginx"), "-p", folder, "-c", conf],
            log=folder / "nginx.log",
        )
        self.port = port
        self.status_port = status_port
        self._asked = 0
        self._requests_log = folder / "requests.log"
        self.wait_ready(lambda: answers(port), "nginx accepts connections")
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def requests(self) -> int:
        """Count what it began to read, without the questions asked here."""
        page = get(f"http://127.0.0.1:{self.status_port}/")
        self._asked += 1
        numbers = re.search(r"^ (\d+) (\d+) (\d+) ?$", page, re.MULTILINE)
        assert numbers is not None, page
        return int(numbers[3]) - self._asked

    def answered(self) -> Counter[int]:
        """Count what it answered, by status; waits until no request is unfinished."""

        def complete() -> Counter[int] | None:
            lines = self._requests_log.read_bytes().split()
            if len(lines) != self.requests():
                return None
            # Not empty, which would read as "not yet"; a count of zero equals none.
            return Counter({200: 0, **Counter(map(int, lines))})

        found = wait_until(complete, "nginx has logged every request it counted")
        assert found is not None
        return found


class Redis(Child):
    """One Redis that stores nothing."""

    port: int

    @classmethod
    def start(cls, folder: Path) -> Self:
        port = free_port()
        self = cls(
            [
                program("redis-server", "redis-server"),
                *("--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(folder)),
            ],
            log=folder / "redis.log",
        )
        self.port = port
        self.wait_ready(lambda: answers(port), "Redis accepts connections")
        return self

    def calls(self) -> Counter[str]:
        """Count its commands by lower-case name, executed or refused."""
        connection = Connection(self.port)
        try:
            report = connection.ask("INFO", "commandstats")
        finally:
            connection.close()
        counts: Counter[str] = Counter()
        for name, calls, refused in re.findall(
            r"^cmdstat_([^:]+):calls=(\d+),.*rejected_calls=(\d+)", report, re.MULTILINE
        ):
            counts[name] = int(calls) + int(refused)
        del counts["info"]
        return counts


class PythonService(Child):
    """One of tests/apps/: `threaded.py` (orders) or `aio.py` (stock)."""

    port: int

    @classmethod
    def start(
        cls,
        folder: Path,
        script: str,
        *ports: int,
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """`ports` are those that it calls, in the order of its own usage line."""
        port = free_port()
        self = cls(
            [sys.executable, APPS / script, str(port), *map(str, ports)],
            log=folder / f"{script}.log",
            env={**IMPORTS, **(env or {})},
        )
        self.port = port
        self.wait_ready(lambda: answers(port), f"{script} accepts connections")
        return self


class Client(Child):
    """The sequential client of tests/apps/; it stays when it is done, for its identity."""

    @classmethod
    def start(
        cls,
        folder: Path,
        port: int,
        *,
        count: int,
        paths: Sequence[str],
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """Ask for every path `count` times; "{n}" in a path is the request's number."""
        return cls(
            [sys.executable, APPS / "client.py", str(port), str(count), *paths],
            log=folder / f"client-{port}.log",
            env=env,
        )

    def result(self, *, timeout_s: float = 30) -> dict[int, int]:
        """Wait until it is done and give its responses by status."""

        def said() -> str:
            text = self.log_text()
            return text if text.endswith("\n") else ""

        line = self.wait_ready(said, "the client is done", timeout_s=timeout_s)
        return {int(status): n for status, n in json.loads(line).items()}


class WrkResult(NamedTuple):
    """What wrk says of its own run."""

    requests: int  # responses that it got whole
    failed: int  # of them, neither 2xx nor 3xx
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int


def wrk(
    url: str,
    *,
    seconds: float = 10,
    connections: int = 16,
    threads: int = 1,
    keep_alive: bool = True,
    pipeline: int = 1,
    folder: Path,
) -> WrkResult:
    """Load a URL as fast as it answers, for whole seconds."""
    argv: list[str | Path] = [program("wrk", "wrk")]
    argv += ["-d", f"{seconds}s", "-c", str(connections), "-t", str(threads)]
    if not keep_alive:
        argv += ["-H", "Connection: close"]
    if pipeline > 1:
        script = folder / "pipeline.lua"
        script.write_text(
            "init = function(args)\n"
            f"  batch = string.rep(wrk.format(), {pipeline})\n"
            "end\n"
            "request = function() return batch end\n"
        )
        argv += ["-s", script]
    said = _run([*argv, url], timeout_s=seconds + 20)
    return WrkResult(
        requests=_number(r"^ +(\d+) requests in ", said, required=True),
        failed=_number(r"^ +Non-2xx or 3xx responses: (\d+)", said),
        connect_errors=_number(r"Socket errors: connect (\d+)", said),
        read_errors=_number(r"Socket errors: .*read (\d+)", said),
        write_errors=_number(r"Socket errors: .*write (\d+)", said),
        timeouts=_number(r"Socket errors: .*timeout (\d+)", said),
    )


def pipelined(port: int, *, pipelines: int, depth: int, timeout_s: float = 60) -> None:
    """Ask nginx for `pipelines` times `depth` pages, and get every one of them."""
    script = APPS / "pipelined.py"
    _run(
        [sys.executable, script, str(port), str(pipelines), str(depth)],
        timeout_s=timeout_s,
    )


def redis_benchmark(
    port: int,
    *,
    requests: int = 100_000,
    clients: int = 16,
    pipeline: int = 1,
    tests: Sequence[str] = ("set", "get"),
    timeout_s: float = 60,
) -> None:
    """Send that many requests of every test; Redis knows how many they were.

    It sends whole pipelines, so the last one may go over `requests`, and asks for two
    settings at its start.
    """
    _run(
        [
            program("redis-benchmark", "redis-tools"),
            *("-h", "127.0.0.1", "-p", str(port), "-q"),
            *("-n", str(requests), "-c", str(clients), "-P", str(pipeline)),
            *("-t", ",".join(tests)),
        ],
        timeout_s=timeout_s,
    )


def _run(argv: Sequence[str | Path], *, timeout_s: float) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout


def _number(pattern: str, text: str, *, required: bool = False) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None or not required, text
    return 0 if found is None else int(found[1])
