# SPDX-License-Identifier: Apache-2.0
"""The service map of a running agent: what it is fed with beside the counts, and who asks for it.

The graph draws; names, zones and other agents' answers come from the configuration, from DNS
answers that the kernel saw, from connection tracking and from peers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deetune_otel.agent.joining import Joining
from deetune_otel.agent.remote_agents import RemoteAgents
from deetune_otel.netlink.addresses import NamespaceAddresses
from deetune_otel.netlink.conntrack import Conntrack
from deetune_otel.topology.addresses import AddressBook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deetune_otel.agent.process_registry import ProcessRegistry
    from deetune_otel.config.schema import TopologySettings
    from deetune_otel.kernel import Kernel
    from deetune_otel.model import Ledger
    from deetune_otel.topology.graph import Graph
    from deetune_otel.topology.model import ServiceMap

__all__ = ["MapService", "zone_of"]


class MapService:
    """From construction until `close`."""

    def __init__(
        self,
        settings: TopologySettings,
        *,
        kernel: Kernel,
        names: ProcessRegistry,
        graph: Graph,
        interval_s: float,
    ) -> None:
        """Raises AgentError where a peer's URL is none that could be asked."""
        self.graph = graph
        self._names = names
        self._peers = RemoteAgents(settings.peers, interval_s=interval_s)
        self._conntrack = (
            Conntrack(pids_in=self._pids_in) if settings.conntrack else None
        )
        self.joining = Joining(
            kernel=kernel,
            graph=graph,
            book=AddressBook(settings.names),
            conntrack=self._conntrack,
            peers=self._peers,
            addresses_of=NamespaceAddresses(self._pids_in).of,
        )
        self._peers.start()

    def close(self) -> None:
        self._peers.close()
        if self._conntrack is not None:
            self._conntrack.close()

    def service_map(
        self,
        *,
        window_s: float,
        now_unix_ns: int,
        with_pairs: bool,
        ledger: Ledger,
        url: str,
    ) -> ServiceMap:
        drawn = self.graph.service_map(
            window_s=window_s,
            now_unix_ns=now_unix_ns,
            pairs_of=self.joining.pairs_of() if with_pairs else {},
        )
        lost = sum(line.exchanges for line in ledger.lost.values())
        return replace(
            drawn,
            agents=tuple(
                replace(agent, url=url, exchanges_lost=lost) for agent in drawn.agents
            ),
        )

    def _pids_in(self, netns: int) -> Iterator[int]:
        """Processes of a network namespace, in the agent's own pid namespace."""
        for owner in self._names.owners():
            if owner.netns == netns and owner.local_pid:
                yield owner.local_pid


def zone_of(settings: TopologySettings, attributes: dict[str, str | int]) -> str:
    """This host's: the configuration's, else the one that the environment tells."""
    if settings.zone is not None:
        return settings.zone
    return str(attributes.get("cloud.availability_zone", ""))
