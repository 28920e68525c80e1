# SPDX-License-Identifier: Apache-2.0
"""A shop of real programs for the end-to-end tests, and what its traffic must amount to.

client → nginx → orders (threads) → stock (asyncio) → Redis, and orders → Redis.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from tests.e2e.agent import Call
from tests.programs import Client, Nginx, PythonService, Redis

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.backends.collector import Collector
    from tests.backends.otlp_json import Span

__all__ = ["EDGES", "Shop"]

# Who calls whom; the name of "stock" is its script's.
EDGES: Final = frozenset(
    {
        ("e2e-client", "e2e-front"),
        ("e2e-front", "e2e-orders"),
        ("e2e-orders", "aio"),
        ("e2e-orders", "e2e-redis"),
        ("aio", "e2e-redis"),
    }
)


class Shop:
    """All its programs, running; a context manager that ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._running = ExitStack()
        start = self._running.enter_context
        try:
            self.redis = start(Redis.start(folder))
            self.stock = start(PythonService.start(folder, "aio.py", self.redis.port))
            self.orders = start(
                PythonService.start(
                    folder,
                    "threaded.py",
                    self.stock.port,
                    self.redis.port,
                    env={"OTEL_SERVICE_NAME": "e2e-orders"},
                )
            )
            self.front = start(
                # One worker: the agent has met it after the first request.
                Nginx.start(folder, workers=1, upstreams={"/orders/": self.orders.port})
            )
        except BaseException:
            self._running.close()
            raise

    @property
    def ports(self) -> tuple[int, ...]:
        return (
            self.front.port,
            self.orders.port,
            self.stock.port,
            self.redis.port,
        )

    def settings(
        self, endpoint: str, protocol: str = "grpc"
    ) -> dict[str, dict[str, Any]]:
        """Give the agent's settings: where to send, and the names of nginx and Redis.

        Those two write over their environment, and say no name of their own.
        """
        return {
            "otlp": {"endpoint": endpoint, "protocol": protocol},
            "services": {
                "rules": [
                    {"match": {"port": self.front.port}, "name": "e2e-front"},
                    {"match": {"port": self.redis.port}, "name": "e2e-redis"},
                ]
            },
            # Every exchange of so small a traffic becomes a span, and a busy neighbour on
            # this machine does not fill the ring.
            "spans": {"per_second": 1000},
        }

    def buy(self, count: int, *, failing: int = 0, client: str = "e2e-client") -> None:
        """Ask for so many orders, one after the other, and for orders that fail.

        The client stays until the shop ends. AssertionError if it got other answers.
        """
        happy = self._client(client, ["/orders/{n}"], count)
        assert happy.result() == {200: count}
        if failing:
            unlucky = self._client(client, ["/orders/fail"], failing)
            assert unlucky.result() == {500: failing}

    def expected(self, count: int, *, failing: int = 0) -> dict[Call, int]:
        """Every call that so many purchases are made of, counted at both of its ends."""
        calls = {
            (self.front.port, "200"): count,
            (self.front.port, "500"): failing,
            (self.orders.port, "200"): count,
            (self.orders.port, "500"): failing,
            (self.stock.port, "200"): count,
            (self.redis.port, "SET"): count,
            (self.redis.port, "GET"): count,
        }
        return {
            Call(role, port, outcome): times
            for (port, outcome), times in calls.items()
            for role in ("client", "server")
            if times
        }

    def spans(self, collector: Collector) -> list[Span]:
        """Give the spans of calls to the shop's servers that arrived, each once."""
        arrived = {
            span.span_id: span
            for span in collector.spans()
            if span.attributes.get("server.port") in self.ports
        }
        return list(arrived.values())

    def _client(self, name: str, paths: list[str], count: int) -> Client:
        folder = self.folder / f"client-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        return self._running.enter_context(
            Client.start(
                folder,
                self.front.port,
                count=count,
                paths=paths,
                env={"OTEL_SERVICE_NAME": name},
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()
