# SPDX-License-Identifier: Apache-2.0
"""Asks the agents of other hosts which service is at the other end of our connections.

They name the connections of which they see one end, by the same pair of sequence numbers. A
thread for each agent: one that is down, hangs or talks nonsense keeps nobody waiting, and costs
a line in the log when that begins and one when it ends.
"""

from __future__ import annotations

import logging
from collections import Counter
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from deetune_otel.model import Role, Service
from deetune_otel.topology.model import Ends, NodeKind
from deetune_otel.web.client import AgentClient, AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deetune_otel.model import Pair
    from deetune_otel.topology.model import ServiceMap

__all__ = ["RemoteAgents"]

# Connections at whose other end a service is known, 300 bytes each.
MAX_ANSWERS: Final = 32_768
# What an agent may need under load; it is asked again soon.
TIMEOUT_S: Final = 5.0
# Connections of the last intervals: theirs and ours do not end at the same time.
WINDOW_INTERVALS: Final = 3

_log = logging.getLogger(__name__)


class RemoteAgents:
    """From `start` to `close`; `service_at` from any thread.

    `counts`: `answered` and `failed` questions.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        interval_s: float,
        timeout_s: float = TIMEOUT_S,
        max_answers: int = MAX_ANSWERS,
    ) -> None:
        """Raises AgentError where a URL is none that could be asked."""
        self._clients = [
            AgentClient(url, timeout_s=timeout_s) for url in dict.fromkeys(urls)
        ]
        self._interval_s = interval_s
        self._lock = Lock()
        self._services: LRUCache[tuple[Pair, Role], Service] = LRUCache(max_answers)
        self._stopping = Event()
        self._threads: list[Thread] = []
        self._failing: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        for client in self._clients:
            thread = Thread(
                target=self._ask_on, args=(client,), name="peer", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """At once: who waits for an answer is not waited for, and tells nobody."""
        self._stopping.set()

    def service_at(self, pair: Pair, role: Role) -> Service | None:
        """Who has this role in the connection; None when no agent said."""
        with self._lock:
            return self._services.get((pair, role))

    @property
    def failing(self) -> dict[str, str]:
        """What is wrong with the agents that do not answer, by URL."""
        with self._lock:
            return dict(self._failing)

    def _ask_on(self, client: AgentClient) -> None:
        while not self._stopping.is_set():
            try:
                answer = client.service_map(
                    window_s=self._interval_s * WINDOW_INTERVALS, with_pairs=True
                )
            except AgentError as e:
                self._fail(client.url, e)
            else:
                self._learn(client.url, answer)
            self._stopping.wait(self._interval_s)

    def _learn(self, url: str, answer: ServiceMap) -> None:
        with self._lock:
            for pair, role, service in _observed(answer):
                self._services[pair, role] = service
            self.counts["answered"] += 1
            was_failing = self._failing.pop(url, None) is not None
        if was_failing:
            _log.info("agent %s answers again", url)

    def _fail(self, url: str, e: AgentError) -> None:
        with self._lock:
            self.counts["failed"] += 1
            was_failing = url in self._failing
            self._failing[url] = str(e)
        if not was_failing and not self._stopping.is_set():
            _log.warning("no answer about other ends: %s", e)


def _observed(answer: ServiceMap) -> Iterator[tuple[Pair, Role, Service]]:
    """The ends that this agent sees, of connections whose other end it does not see."""
    services = {
        node.id: Service(
            name=node.name, namespace=node.namespace, found_by=node.found_by
        )
        for node in answer.nodes
        if node.kind is NodeKind.SERVICE
    }
    for edge in answer.edges:
        if edge.ends is Ends.BOTH:
            continue
        role = Role.SERVER if edge.ends is Ends.SERVER else Role.CLIENT
        node_id = edge.server if role is Role.SERVER else edge.client
        service = services.get(node_id)
        if service is not None:
            for pair in edge.pairs:
                yield pair, role, service
