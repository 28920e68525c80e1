# SPDX-License-Identifier: Apache-2.0
"""One lab: its hosts, programs and agents, what the programs counted, and what the map says."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import yaml
from tests.process import wait_until

from lab.net import Host, LabError, Net, fetch, inside
from lab.programs import Dnsmasq, HAProxy, Nginx, Player, Program, Redis
from lab.scoring import (
    Connection,
    EdgeKey,
    Score,
    Sight,
    by_address,
    merged_calls,
    read_map,
    score,
)

__all__ = ["Agent", "Lab"]

_PORT: Final = 8127
_INTERVAL_S: Final = 1
# Long enough for three readings of every agent; what is wrong then stays wrong.
_SETTLE_S: Final = 12.0
# An edge that comes late is seen too: after the map was right it is read once more.
_AGAIN_S: Final = 1.5
_WINDOW_S: Final = 600

_P = TypeVar("_P", bound=Program)


class Agent(Program):
    """`deetune run` inside a host; asked over the management network."""

    url: str

    @classmethod
    def start(
        cls,
        host: Host,
        *,
        folder: Path,
        settings: Mapping[str, Mapping[str, Any]],
    ) -> Self:
        sections: dict[str, dict[str, Any]] = {
            "agent": {"interval_s": _INTERVAL_S},
            "kernel": {"network_namespaces": "own"},
            "web": {"host": host.management, "port": _PORT},
        }
        for section, values in settings.items():
            sections[section] = {**sections.get(section, {}), **values}
        file = folder / f"{host.name}.yaml"
        file.write_text(yaml.safe_dump(sections))
        self = cls(
            host,
            f"agent-{host.name}",
            [sys.executable, "-m", "deetune_otel", "run", "--config", file],
            folder=folder,
        )
        self.url = f"http://{host.management}:{_PORT}"
        # It listens from its start on, and has loaded its programs before.
        return self.wait_for(f"{host.management}:{_PORT}")


class Lab:
    """A context manager; everything that it started ends with it. Services have names used once."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        try:
            self.net: Final = self._stack.enter_context(Net())
            self.folder: Final = Path(
                self._stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="deetune-lab-")
                )
            )
            self.folder.chmod(0o711)
        except BaseException:
            self._stack.close()
            raise
        self.agents: list[Agent] = []
        self._players: dict[str, Player] = {}
        self._programs: dict[str, Program] = {}
        self._silent: list[EdgeKey] = []
        self._earlier: dict[tuple[str, str, str], int] = {}
        self._unobserved: dict[str, tuple[str, str]] = {}

    # What there is

    def player(self, host: Host, name: str, *, prefix: Sequence[str] = ()) -> Player:
        player = Player(host, name, prefix=prefix)
        self._stack.callback(player.end)
        self._players[name] = player
        return player

    def nginx(
        self, host: Host, name: str, port: int, *, behind: Sequence[str] = ()
    ) -> Nginx:
        return self._real(
            Nginx.start(host, name, port, folder=self.folder, behind=behind)
        )

    def haproxy(
        self, host: Host, name: str, port: int, *, behind: Sequence[str]
    ) -> HAProxy:
        return self._real(
            HAProxy.start(host, name, port, folder=self.folder, behind=behind)
        )

    def redis(self, host: Host, name: str, port: int = 0, *, path: str = "") -> Redis:
        return self._real(Redis.start(host, name, port, folder=self.folder, path=path))

    def dnsmasq(self, host: Host, name: str, names: Mapping[str, str]) -> Dnsmasq:
        return self._real(Dnsmasq.start(host, name, folder=self.folder, names=names))

    def agent(
        self,
        host: Host,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        sees_all: bool = False,
    ) -> Agent:
        """Start one, for a host or (`sees_all`) for every namespace of the machine.

        It is told the names of the real programs, which write over their environment, and
        nothing else.
        """
        rules = [
            {"match": dict(one.match), "name": name}
            for name, one in self._programs.items()
            if sees_all or one.host == host
        ]
        sections: dict[str, Mapping[str, Any]] = {"services": {"rules": rules}}
        if sees_all:
            sections["kernel"] = {"network_namespaces": "all"}
        agent = self._stack.enter_context(
            Agent.start(
                host, folder=self.folder, settings={**sections, **(settings or {})}
            )
        )
        self.agents.append(agent)
        return agent

    # What is true

    def silent(self, client: str, server: str) -> None:
        """An edge that nothing counts: a connection without calls."""
        self._silent.append(EdgeKey(client, server))

    def unobserved(self, name: str, *, client: str = "", server: str = "") -> None:
        """No agent sees this program: what a right map calls it where it calls, where it serves."""
        self._unobserved[name] = (client, server)

    def count_from_now(self) -> None:
        """What was called until now is not on the map: there is no agent yet."""
        self.truth()
        self._earlier = {row[:3]: row[3] for row in self._rows()}

    def truth(self) -> Sight:
        """Who called whom, as the programs counted it. Raises LabError if two of them disagree."""
        return wait_until(self._agreed, "the programs' counts agree", timeout_s=5)

    def check_real(self) -> None:
        """That the real programs counted what their callers did. Raises LabError."""
        calls = self._rows()
        for name, program in self._programs.items():
            if isinstance(program, Nginx | Redis | Dnsmasq):
                theirs = sum(n for _, server, _, n in calls if server == name)
                own = program.served()
                count = own.total() if isinstance(own, Counter) else own
                if count != theirs:
                    raise LabError(
                        f"{name} counted {count} calls, its callers {theirs}"
                    )

    def by_address(self) -> set[EdgeKey]:
        """What addresses alone would make of the same connections."""
        reports = {
            name: player.report()
            for name, player in self._players.items()
            if name not in self._unobserved
        }
        listeners = {
            address: name
            for name, report in reports.items()
            for address in report.listens
        }
        listeners |= {one.listens: name for name, one in self._programs.items()}
        ends = {
            Connection(name, role == "client", own, other)
            for name, report in reports.items()
            for role, own, other in report.ends
        }
        # A proxy tells nobody of its connections; its configuration does.
        ends |= {
            Connection(name, True, one.host.address, address)  # noqa: FBT003
            for name, one in self._programs.items()
            for address in one.behind
        }
        return by_address(ends, listeners)

    # What the map says

    def status(self, agent: Agent) -> dict[str, Any]:
        """What an agent says of itself."""
        found: dict[str, Any] = json.loads(
            fetch(self.net.fabric, f"{agent.url}/status")
        )
        return found

    def map(self, agents: Iterable[Agent] | None = None) -> dict[str, Any]:
        """What `deetune map` makes of these agents, or of all."""
        urls = [one.url for one in (self.agents if agents is None else agents)]
        done = subprocess.run(
            [
                *inside(self.net.fabric),
                *(sys.executable, "-m", "deetune_otel", "map", "--format", "json"),
                *("--window", str(_WINDOW_S), "--from", *urls),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise LabError(f"deetune map ended with {done.returncode}:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def scored(self) -> Score:
        """Compare the map with the truth, when it is right or has had its time."""
        truth = self.truth()
        services = {name for key in truth for name in key}
        services |= self._players.keys() | self._programs.keys()

        def now() -> Score:
            for agent in self.agents:
                agent.check_alive()
            return score(truth, read_map(self.map(), services))

        with suppress(AssertionError):
            wait_until(
                lambda: now().is_perfect,
                "the map is right",
                timeout_s=_SETTLE_S,
                every_s=0.2,
            )
        time.sleep(_AGAIN_S)
        found = now()
        self.check_real()  # asking a real program is a call to it: last
        return found

    def dismiss(self) -> None:
        """End all programs and forget them; hosts and agents stay."""
        for player in self._players.values():
            player.end()
        for program in self._programs.values():
            program.kill()
        self._players.clear()
        self._programs.clear()
        self._silent.clear()
        self._unobserved.clear()

    def close(self) -> None:
        self._stack.close()

    def _real(self, program: _P) -> _P:
        self._stack.enter_context(program)
        self._programs[program.service] = program
        return program

    def _rows(self) -> list[tuple[str, str, str, int]]:
        """(client, server, protocol, calls), each counted by a player of its own end."""
        called: dict[tuple[str, str, str], int] = {}
        served: dict[tuple[str, str, str], int] = {}
        for name, player in self._players.items():
            report = player.report()
            called |= {(name, who, how): n for (who, how), n in report.called.items()}
            served |= {(who, name, how): n for (who, how), n in report.served.items()}
        for key in called.keys() & served.keys():
            if called[key] != served[key]:
                raise _DisagreeError(
                    f"{key}: called {called[key]}, served {served[key]}"
                )
        return [(*key, n) for key, n in {**served, **called}.items()]

    def _agreed(self) -> Sight:
        rows = [
            # A datagram has no answer that belongs to it: an edge without calls.
            (client, server, how, 0 if how == "udp" else n)
            for client, server, how, count in self._rows()
            if (n := count - self._earlier.get((client, server, how), 0))
        ]
        rows += [(client, server, "", 0) for client, server in self._silent]
        return merged_calls(
            (self._label(client, 0), self._label(server, 1), how, n)
            for client, server, how, n in rows
            if not {client, server} <= self._unobserved.keys()
        )

    def _label(self, name: str, end: int) -> str:
        return self._unobserved.get(name, (name, name))[end]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _DisagreeError(OSError):
    """Two ends count differently: one of them is not done yet; `wait_until` waits."""
