# SPDX-License-Identifier: Apache-2.0
"""How each program of the shop is run: its own instance, on a free port of loopback.

Durability is off (the data lives as long as the demo) and what a server keeps is in
its own folder. Servers from the distribution run as `nobody` when we are root.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deetune_otel.demo.program import Program, find, hand_over, run

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HOST", "Ports", "Postgres", "customers", "nginx", "redis", "service"]

HOST: Final = "127.0.0.1"
BELOW_EPHEMERAL: Final = range(18_000, 32_000)
NEXT_PORT: Final = 8081  # where it is free: the README's commands name it
PROBE_TIMEOUT_S: Final = 1.0
SERVICES: Final = Path(__file__).with_name("services")
POSTGRES_FOLDERS: Final = Path("/usr/lib/postgresql")  # Debian: one folder a version

# The script's folder stays off its path: a service's file must not hide a package.
PYTHON: Final = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}

NGINX_CONF: Final = """\
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000;
    upstream shop {{ server {host}:{ports.shop}; keepalive 16; }}
    upstream orders {{ server {host}:{ports.orders}; keepalive 16; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_next_upstream off;
    server {{
        listen {host}:{ports.nginx};
        location / {{ proxy_pass http://shop; }}
        location /orders {{ proxy_pass http://orders; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    nginx: int
    shop: int
    shop_next: int
    orders: int
    redis: int
    postgres: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses; all are held until the last is found."""
        with ExitStack() as held:
            wanted = {"shop_next": NEXT_PORT}
            return cls(
                **{
                    port.name: _free_port(held, wanted.get(port.name, 0))
                    for port in fields(cls)
                }
            )


@dataclass(frozen=True, slots=True)
class Postgres:
    """An own cluster, asked for its password over TCP and over its Unix socket."""

    folder: Path
    port: int
    password: str
    binaries: Path

    @classmethod
    def create(cls, folder: Path, port: int) -> Postgres:
        """Makes the cluster (initdb, about a second)."""
        newest_first = sorted(
            POSTGRES_FOLDERS.glob("*/bin"),
            key=lambda path: path.parent.name.zfill(4),  # "9.6" before "15"
            reverse=True,
        )
        initdb = find("initdb", package="postgresql", folders=newest_first)
        password = secrets.token_hex()
        password_file = folder.with_suffix(".password")
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        hand_over(password_file)
        run(
            Program(
                name="initdb",
                command=[
                    initdb,
                    *("--pgdata", str(folder / "data"), "--username", "shop"),
                    *("--pwfile", str(password_file), "--auth", "scram-sha-256"),
                    *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
                ],
                folder=folder,
                unprivileged=True,
            )
        )
        return cls(folder, port, password, Path(initdb).resolve().parent)

    def program(self) -> Program:
        return Program(
            name="postgres",
            command=[
                str(self.binaries / "postgres"),
                *("-D", str(self.folder / "data"), "-p", str(self.port)),
                *("-c", f"listen_addresses={HOST}"),
                *("-c", f"unix_socket_directories={self.folder}"),
                *("-c", "fsync=off", "-c", "max_connections=60"),
            ],
            folder=self.folder,
            ready=self._answers,
            unprivileged=True,
            stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
        )

    def environment(self, host: str) -> dict[str, str]:
        """What libpq needs; `host` is an address, or the folder of the Unix socket."""
        return {
            "PGHOST": host,
            "PGPORT": str(self.port),
            "PGUSER": "shop",
            "PGDATABASE": "postgres",
            "PGPASSWORD": self.password,
        }

    def _answers(self) -> bool:
        probe = str(self.binaries / "pg_isready")
        return (
            subprocess.run(  # noqa: S603 (our own command)
                [probe, "-q", "-h", HOST, "-p", str(self.port)], check=False
            ).returncode
            == 0
        )


def redis(folder: Path, port: int) -> Program:
    def answers() -> bool:
        with socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")

    return Program(
        name="redis-server",
        command=[
            find("redis-server", package="redis-server"),
            *("--bind", HOST, "--port", str(port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ],
        folder=folder,
        ready=answers,
        unprivileged=True,
    )


def service(
    name: str, folder: Path, *, port: int, environment: Mapping[str, str]
) -> Program:
    """One of our own services, run as any script is."""
    return Program(
        name=name,
        command=[sys.executable, str(SERVICES / f"{name}.py")],
        folder=folder,
        ready=lambda: _healthy(port),
        environment={**PYTHON, "PORT": str(port), **environment},
    )


def nginx(folder: Path, ports: Ports) -> Program:
    configuration = folder.with_suffix(".conf")
    configuration.write_text(NGINX_CONF.format(host=HOST, ports=ports))
    return Program(
        name="nginx",
        command=[
            find("nginx", package="nginx-light"),
            *("-p", str(folder), "-c", str(configuration), "-e", "stderr"),
        ],
        folder=folder,
        ready=lambda: _healthy(ports.nginx),
        unprivileged=True,
    )


def customers(folder: Path, *, url: str, rate: float, report: Path) -> Program:
    """The load; it writes a line when it has begun, and its counts when it is ended."""
    program = Program(
        name="customers",
        command=[
            *(sys.executable, str(SERVICES / "customers.py"), url),
            *("--rate", str(rate), "--report", str(report)),
        ],
        folder=folder,
        environment=PYTHON,
        ready=lambda: bool(program.log.read_bytes()),
    )
    return program


def _free_port(held: ExitStack, wanted: int) -> int:
    """A port that `held` keeps taken, where no outgoing connection can take it later."""
    while True:
        holder = held.enter_context(socket.socket())
        port, wanted = wanted or secrets.choice(BELOW_EPHEMERAL), 0
        with suppress(OSError):
            holder.bind((HOST, port))
            return port


def _healthy(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == HTTPStatus.OK
    except HTTPException:
        return False
    finally:
        connection.close()
