# SPDX-License-Identifier: Apache-2.0
"""Who is at an edge's other end, where this kernel does not see it. Values only.

`joining` finds them out and tells the graph; what came first stays true for the calls that were
counted until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deetune_otel.model import Edge, Service

__all__ = ["Far", "OpenEdge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """One answer. Where `service` is known it decides, else `name`, else the address.

    `address` and `port` are the real end's, after translation (for a server's edge: the real
    client's address, port 0). Several answers for one edge: its address stands for several.
    """

    address: str
    port: int
    name: str = ""  # "api.example.com"
    found_by: str = ""  # what gave the name: "config", "dns"
    service: Service | None = None  # as another agent knows it
    is_translated: bool = (
        False  # address and port are not what was called: connection tracking
    )


class OpenEdge(NamedTuple):
    """An edge of which the kernel joined no connection yet, or surely not all."""

    edge: Edge
    netns: int
    is_known: bool  # `know` was called for it before
