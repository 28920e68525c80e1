# SPDX-License-Identifier: Apache-2.0
"""The programs of the lab, each inside a host; what each counted itself is the truth.

- a player: `called` and `served`, by name, at both ends of every call
- nginx: a line in its log for every request, with the caller's name
- HAProxy: names itself in what it passes on, so that its callers and its backends count it
- Redis: `INFO commandstats`, how often ECHO was called
- dnsmasq: a line in its log for every query
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.process import Child, wait_until

from lab.net import Host, LabError, inside, tool

__all__ = ["Dnsmasq", "HAProxy", "Nginx", "Player", "Program", "Redis", "Report"]

_PLAYER: Final = Path(__file__).with_name("player.py")

_END_S: Final = 2

_NGINX: Final = """\
daemon off;
user root;
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format caller '$http_x_lab_caller';
    access_log callers.log caller;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000;
    upstream behind {{ {upstream} keepalive 4; }}
    server {{
        listen {listen};
        add_header X-Lab-Server {name};
        {location}
    }}
}}
"""
_SERVES: Final = 'location / { return 200 "ok\\n"; }'
_PASSES_ON: Final = """location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_next_upstream off;
            proxy_set_header Connection "";
            proxy_set_header X-Lab-Caller {name};
            proxy_hide_header X-Lab-Server;
        }}"""
_HAPROXY: Final = """\
global
    maxconn 1000
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
frontend front
    bind {address}
    default_backend behind
backend behind
    balance roundrobin
    http-request set-header X-Lab-Caller {name}
    http-response set-header X-Lab-Server {name}
    {servers}
"""


class Report(NamedTuple):
    """What a player counted."""

    called: dict[tuple[str, str], int]  # calls by (who answered, protocol)
    served: dict[tuple[str, str], int]  # calls by (who called, protocol)
    # connections by (role, own address, the other's), of a client without its port
    ends: dict[tuple[str, str, str], int]
    listens: list[str]


class Program(Child):
    """A child inside a host; `service` is what it is called, by a rule that has this `match`."""

    match: Mapping[str, str | int]
    listens: str  # "10.61.1.2:80", or a path
    behind: Sequence[str] = ()  # of a proxy: what it passes on to

    def __init__(
        self,
        host: Host,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.host: Final = host
        self.service: Final = name
        super().__init__(
            [*inside(host.namespace), *command],
            log=folder / f"{name}.log",
            env=env,
            cwd=folder,
        )

    def accepts(self, address: str) -> bool:
        """Whether a socket of its host listens at "ADDRESS:PORT" or a path; no call is made."""
        name = "unix" if address.startswith("/") else "tcp"
        lines = Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]
        if name == "unix":
            return any(line.endswith(f" {address}") for line in lines)
        listening = {line.split()[1] for line in lines if line.split()[3] == "0A"}
        return bool(listening & {_proc_address(address), _proc_any(address)})

    def wait_for(self, address: str) -> Self:
        """Until it listens there; that is also how a rule finds it."""
        self.listens = address
        is_path = address.startswith("/")
        self.match = (
            {"command": f"*{address}*"}
            if is_path
            else {"port": int(address.rpartition(":")[2])}
        )
        self.wait_ready(lambda: self.accepts(address), f"{self.service} listens")
        return self


class Player:
    """One process of lab/player.py. A method of it is called by its name: `do("call", …)`."""

    def __init__(self, host: Host, name: str, *, prefix: Sequence[str] = ()) -> None:
        """`prefix` starts the command: a program that runs it in a way of its own."""
        self.host: Final = host
        self.service: Final = name
        self._last: Report | None = None
        self._process = subprocess.Popen(
            [
                *(*inside(host.namespace), *prefix),
                *(sys.executable, "-I", str(_PLAYER)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OTEL_SERVICE_NAME": name, "LC_ALL": "C.UTF-8"},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, method: str, **arguments: Any) -> Any:
        """What lab/player.py's method of this name gives. Raises LabError."""
        told, said = self._process.stdin, self._process.stdout
        assert told is not None
        assert said is not None
        told.write(json.dumps({"do": method, **arguments}).encode() + b"\n")
        told.flush()
        line = said.readline()
        if not line:
            raise LabError(f"{self.service} ended while it did {method}")
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(f"{self.service}: {answer['error']}")
        return answer["result"]

    def serve(
        self, protocol: str, port: int, *, shared: bool = False
    ) -> tuple[str, int]:
        """Serve at the host's first address, and give where that is."""
        where = (self.host.address, port)
        self.do("serve", protocol=protocol, address=where, shared=shared)
        return where

    def call(
        self,
        protocol: str,
        address: tuple[str, int] | str,
        count: int,
        **arguments: Any,
    ) -> dict[str, int]:
        """Give the answers by who answered."""
        found: dict[str, int] = self.do(
            "call", protocol=protocol, address=address, count=count, **arguments
        )
        return found

    def report(self) -> Report:
        """What it counted, also after `retire`."""
        if self._last is not None:
            return self._last
        found = self.do("report")
        return Report(
            called={(row[0], row[1]): row[2] for row in found["called"]},
            served={(row[0], row[1]): row[2] for row in found["served"]},
            ends={(row[0], row[1], row[2]): row[3] for row in found["ends"]},
            listens=found["listens"],
        )

    def retire(self) -> None:
        """End it and keep what it counted."""
        self._last = self.report()._replace(listens=[])
        self.end()

    def end(self) -> None:
        """Nothing more to do ends it; SIGKILL, if it does something still."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Nginx(Program):
    """Answers itself, or passes on to `behind` over connections that it keeps."""

    @classmethod
    def start(
        cls,
        host: Host,
        name: str,
        port: int,
        *,
        folder: Path,
        behind: Sequence[str] = (),
        workers: int = 2,
    ) -> Self:
        """`behind`: "10.61.1.2:80" or "unix:/path"."""
        place = folder / name
        place.mkdir()
        listen = f"{host.address}:{port}"
        (place / "nginx.conf").write_text(
            _NGINX.format(
                workers=workers,
                listen=listen,
                name=name,
                upstream=" ".join(f"server {to};" for to in behind or ["127.0.0.1:9"]),
                location=_PASSES_ON.format(name=name) if behind else _SERVES,
            )
        )
        self = cls(
            host,
            name,
            [tool("nginx"), "-p", place, "-c", place / "nginx.conf"],
            folder=place,
        )
        self.callers = place / "callers.log"
        self.behind = behind
        return self.wait_for(listen)

    callers: Path

    def served(self) -> Counter[str]:
        """Count the requests by caller, as its log has them."""
        return Counter(self.callers.read_text().split())


class HAProxy(Program):
    """Passes on, by turns."""

    @classmethod
    def start(
        cls, host: Host, name: str, port: int, *, folder: Path, behind: Sequence[str]
    ) -> Self:
        listen = f"{host.address}:{port}"
        conf = folder / f"{name}.cfg"
        servers = "\n    ".join(f"server s{n} {to}" for n, to in enumerate(behind))
        conf.write_text(_HAPROXY.format(address=listen, name=name, servers=servers))
        self = cls(host, name, [tool("haproxy"), "-db", "-f", conf], folder=folder)
        self.behind = behind
        return self.wait_for(listen)


class Redis(Program):
    """Stores nothing; listens on TCP, or at a path alone."""

    @classmethod
    def start(
        cls, host: Host, name: str, port: int = 0, *, folder: Path, path: str = ""
    ) -> Self:
        where = ["--unixsocket", path] if path else ["--bind", host.address]
        self = cls(
            host,
            name,
            [
                *(tool("redis-server"), "--port", str(port), *where),
                *("--protected-mode", "no", "--save", "", "--appendonly", "no"),
                *("--dir", folder),
            ],
            folder=folder,
        )
        return self.wait_for(path or f"{host.address}:{port}")

    def served(self) -> int:
        """Count the ECHO commands by its own statistics; asking it is a call to it."""
        ask = inside(self.host.namespace)
        where = (
            ["-s", self.listens]
            if self.listens.startswith("/")
            else ["-u", f"redis://{self.listens}"]
        )
        said = subprocess.run(
            [*ask, tool("redis-cli"), *where, "INFO", "commandstats"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in said.splitlines():
            if line.startswith("cmdstat_echo:calls="):
                return int(line.partition("=")[2].partition(",")[0])
        return 0


class Dnsmasq(Program):
    """A name server that knows what it is told, and nobody to ask."""

    @classmethod
    def start(
        cls, host: Host, name: str, *, folder: Path, names: Mapping[str, str]
    ) -> Self:
        records = [f"--address=/{one}/{address}" for one, address in names.items()]
        self = cls(
            host,
            name,
            [
                *(tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null"),
                *("--no-resolv", "--no-hosts", "--user=root", "--pid-file="),
                *("--log-queries", "--log-facility=-", "--bind-interfaces"),
                *(f"--listen-address={host.address}", *records),
            ],
            folder=folder,
        )
        return self.wait_for(f"{host.address}:53")

    def served(self) -> int:
        """Count the queries that its log has."""
        return self.log_text().count(": query[")

    def wait_for_queries(self, count: int) -> None:
        wait_until(lambda: self.served() == count, f"{count} queries in {self.log}")


def _proc_address(address: str) -> str:
    """ "10.61.1.2:80" as /proc/net/tcp writes it, on a machine of either byte order."""
    text, _, port = address.rpartition(":")
    number = int.from_bytes(bytes(map(int, text.split("."))), sys.byteorder)
    return f"{number:08X}:{int(port):04X}"


def _proc_any(address: str) -> str:
    return _proc_address(f"0.0.0.0:{address.rpartition(':')[2]}")
