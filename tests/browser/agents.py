# SPDX-License-Identifier: Apache-2.0
"""An agent as far as the page can tell: the real server, over maps that a test sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics.export import MetricsData
from tests.browser.maps import details_of_edge, details_of_node, shop

from deetune_otel.config.schema import WebSettings
from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap
from deetune_otel.web.api import MapSources
from deetune_otel.web.server import WebServer

__all__ = ["PageAgent"]


class PageAgent:
    """`draw(window_s, now_ns)` is the map; may be stopped and started again at its port."""

    def __init__(self, draw: Callable[[float, int], ServiceMap] | None = None) -> None:
        self.draw = draw or (lambda window_s, now_ns: shop(window_s, now_ns=now_ns))
        self.windows: list[float] = []
        self.pairs_wanted: list[bool] = []
        self.port = 0
        self._server: WebServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        self._server = WebServer(
            WebSettings(port=self.port),
            metrics=lambda: MetricsData(resource_metrics=[]),
            status=dict[str, Any],
            health=list[str],
            of_map=MapSources(self._map, self._edge, self._node),
        )
        self.port = self._server.port

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _map(self, window_s: float, with_pairs: bool) -> ServiceMap:  # noqa: FBT001
        self.windows.append(window_s)
        self.pairs_wanted.append(with_pairs)
        return self.draw(window_s, time.time_ns())

    def _edge(self, edge_id: str, window_s: float) -> EdgeDetails | None:
        return details_of_edge(self.draw(window_s, time.time_ns()), edge_id)

    def _node(self, node_id: str, window_s: float) -> NodeDetails | None:
        return details_of_node(self.draw(window_s, time.time_ns()), node_id)
