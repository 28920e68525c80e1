# SPDX-License-Identifier: Apache-2.0
"""The whole shop: started in order, in one folder, and gone without a trace.

           customers ──▶ nginx ──▶ shop (threads) ──▶ redis, postgres (Unix socket)
                           │         ▲ │
                           │         │ ▼
                           └────▶ orders (asyncio) ──▶ redis, postgres (TCP)

Beside the shop its next build waits for requests: nobody calls it before somebody replays.

Whatever ends us, all of it ends: programs by the kernel's parent-death signal, the
folder by a small shell that waits for the end of a pipe which only we hold open.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.demo import servers
from deetune_otel.demo.program import (
    NotInstalledError,
    Program,
    ProgramError,
    running,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Customers", "Stack", "opened"]

PYTHON_PACKAGES: Final = ("aiohttp", "psycopg", "redis")

# Programs that end beside us may still write for a moment: try again.
JANITOR: Final = """
trap '' INT TERM HUP
read -r _
tries=0
until rm -rf "$1" 2>/dev/null || [ $tries -ge 100 ]; do
    tries=$((tries + 1)); sleep 0.1
done
"""


@dataclass(slots=True)
class Customers:
    """The load; its counts are exact once it has finished."""

    _program: Program
    _process: subprocess.Popen[bytes]
    _report: Path

    def check(self) -> None:
        """ProgramError when the load has ended by itself."""
        if self._process.poll() is not None:
            raise ProgramError(self._program, "ended before it was told to")

    def finish(self) -> dict[str, Any]:
        """Ends the load, waits for the last answers, returns the counts."""
        self.check()
        stop(self._program, self._process)
        if self._process.returncode != 0:
            raise ProgramError(self._program, "did not end well")
        counts: dict[str, Any] = json.loads(self._report.read_text())
        return counts


@dataclass(frozen=True, slots=True)
class Stack:
    """The running shop."""

    folder: Path
    ports: servers.Ports

    @property
    def url(self) -> str:
        return f"http://{servers.HOST}:{self.ports.nginx}"

    @property
    def next_build(self) -> str:
        """Where the shop's next build serves, "127.0.0.1:8081"."""
        return f"{servers.HOST}:{self.ports.shop_next}"

    @contextmanager
    def customers(self, *, rate: float) -> Iterator[Customers]:
        """A steady load of `rate` requests a second, until the block is left."""
        report = self.folder / "customers.json"
        program = servers.customers(
            self.folder / "customers", url=self.url, rate=rate, report=report
        )
        with running(program) as process:
            yield Customers(program, process, report)


@contextmanager
def opened(say: Callable[[str], None]) -> Iterator[Stack]:
    """The shop, ready to serve, until the block is left; raises DemoError."""
    for package in PYTHON_PACKAGES:
        if find_spec(package) is None:
            raise NotInstalledError(package, install="pip install 'deetune-otel[demo]'")
    with _folder() as folder, ExitStack() as programs:
        ports = servers.Ports.free()

        def start(program: Program) -> None:
            say(f"starting {program.name}")
            programs.enter_context(running(program))

        start(servers.redis(folder / "redis", ports.redis))
        say("creating a database")
        postgres = servers.Postgres.create(folder / "postgres", ports.postgres)
        start(postgres.program())
        for name, port in (("shop", ports.shop), ("shop_next", ports.shop_next)):
            start(
                servers.service(
                    name,
                    folder / name,
                    port=port,
                    environment={
                        "REDIS_PORT": str(ports.redis),
                        "ORDERS_PORT": str(ports.orders),
                        **postgres.environment(str(postgres.folder)),
                    },
                )
            )
        start(
            servers.service(
                "orders",
                folder / "orders",
                port=ports.orders,
                environment={
                    "REDIS_PORT": str(ports.redis),
                    "SHOP_PORT": str(ports.shop),
                    **postgres.environment(servers.HOST),
                },
            )
        )
        start(servers.nginx(folder / "nginx", ports))
        yield Stack(folder, ports)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of our own, removed when the block is left or we die in it."""
    folder = Path(tempfile.mkdtemp(prefix="deetune-demo-"))
    folder.chmod(0o711)  # unprivileged servers walk through it to their own
    janitor = subprocess.Popen(  # noqa: S603 (our own command)
        ["/bin/sh", "-c", JANITOR, "janitor", str(folder)],
        stdin=subprocess.PIPE,
        process_group=0,
    )
    try:
        yield folder
    finally:
        janitor.communicate()  # closes the pipe
