# SPDX-License-Identifier: Apache-2.0
"""Where a command takes the map from: a running agent, or one of its own.

Who names a URL wants that agent and no other. Without one, an agent of our own starts where
none answers at the default address: in this process, with the default settings, sending nothing
and listening nowhere; it needs root, and ends with the command.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.web.client import AgentClient, AgentError, NoAgent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from deetune_otel.topology.model import EdgeDetails, NodeDetails, ServiceMap

__all__ = [
    "DEFAULT_URL",
    "Source",
    "Watched",
    "add_url_argument",
    "agent_errors_explained",
    "watching",
]

DEFAULT_URL: Final = "http://127.0.0.1:8127"
# Who watches for a few seconds wants to see each of them.
OWN_INTERVAL_S: Final = 1.0


class Source(Protocol):
    """What answers: web.client.AgentClient, or agent.Agent."""

    def service_map(
        self, *, window_s: float, with_pairs: bool = False
    ) -> ServiceMap: ...

    def edge_details(self, edge_id: str, *, window_s: float) -> EdgeDetails | None: ...

    def node_details(self, node_id: str, *, window_s: float) -> NodeDetails | None: ...


@dataclass(frozen=True, slots=True)
class Watched:
    source: Source
    is_own: bool  # it has just started: who asks at once sees nothing yet
    name: str  # the URL, or "this process"


def add_url_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        metavar="URL",
        help=f"ask the agent that runs there (default: {DEFAULT_URL}, or where none "
        "answers, an agent of this command's own, which needs root)",
    )


@contextmanager
def watching(url: str | None, *, say: Callable[[str], None]) -> Iterator[Watched]:
    """Gives whom to ask; `say` gets a line for people when an agent of our own starts.

    Raises CommandError, also in place of an AgentError that leaves the block.
    """
    with agent_errors_explained():
        client = AgentClient(url or DEFAULT_URL)
        try:
            client.check()
        except NoAgent:
            if url is not None:
                raise
        else:
            yield Watched(client, is_own=False, name=client.url)
            return
    say(f"no agent runs at {DEFAULT_URL}: watching from this process")
    with _own_agent() as agent:
        yield Watched(agent, is_own=True, name="this process")


@contextmanager
def agent_errors_explained() -> Iterator[None]:
    """An AgentError ends the command with its line and its hint."""
    try:
        yield
    except AgentError as error:
        raise CommandError(str(error), hint=error.hint) from error


@contextmanager
def _own_agent() -> Iterator[Source]:
    # Not at the top: who asks a running agent needs none of it, and it takes a second.
    from deetune_otel.agent.agent import Agent  # noqa: PLC0415
    from deetune_otel.config.schema import (  # noqa: PLC0415
        AgentSettings,
        Config,
        WebSettings,
    )
    from deetune_otel.kernel.errors import KernelUnavailable  # noqa: PLC0415

    config = Config(
        agent=AgentSettings(interval_s=OWN_INTERVAL_S, log_level="warning"),
        web=WebSettings(enabled=False),
    )
    agent = Agent(config, environ={})
    try:
        agent.start()
    except KernelUnavailable as error:
        raise CommandError(
            f"no agent answers at {DEFAULT_URL}, and none can be started here: "
            f"{error.args[0]}",
            hint="start one (`deetune run`) or name one that runs (--url URL); "
            f"or watch from here: {error.hint}",
            code=ExitCode.UNAVAILABLE,
        ) from error
    try:
        yield agent
    finally:
        agent.stop()
