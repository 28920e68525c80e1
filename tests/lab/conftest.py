# SPDX-License-Identifier: Apache-2.0
"""One host with one agent for the adversarial tests, and the programs of each test on it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from lab.net import Host
from lab.programs import Player
from lab.scoring import EdgeKey
from lab.stage import Agent, Lab
from tests.process import free_port, wait_for_equal, wait_until

PROGRAMS: Final = Path(__file__).parent / "programs"
# Real programs write over their environment, so rules name them; each is in one test alone.
REAL: Final = {"edge": 9001, "many": 9002, "resolver": 53}
LOCAL_REDIS: Final = "redis-local.sock"
RULES: Final = [
    *({"match": {"port": port}, "name": name} for name, port in REAL.items()),
    {"match": {"command": f"*{LOCAL_REDIS}*"}, "name": "local"},
]


class Stage:
    """A host, its agent, and what is played there."""

    def __init__(self, lab: Lab, host: Host, agent: Agent, suffix: str) -> None:
        self.lab: Final = lab
        self.host: Final = host
        self.agent: Final = agent
        self._suffix = suffix

    def name(self, word: str) -> str:
        """No two tests have a service of the same name: the agent counts since its start."""
        return f"{word}.{self._suffix}"

    def player(self, word: str, *, prefix: tuple[str, ...] = ()) -> Player:
        return self.lab.player(self.host, self.name(word), prefix=prefix)

    def port(self) -> int:
        return free_port()

    def address(self, port: int) -> tuple[str, int]:
        return self.host.address, port

    def expect(self, *edges: tuple[str, str, Mapping[str, int]]) -> None:
        """These edges with these calls were made, are on the map, and are all that is there."""
        expected = {
            EdgeKey(self._known(client), self._known(server)): dict(calls)
            for client, server, calls in edges
        }
        assert self.lab.truth() == expected, "the programs did what the test wants"
        expect_right(self.lab)
        self.expect_balance()

    def expect_divided(self, *edges: tuple[str, str, Mapping[str, int]]) -> None:
        """The same, where one address led to several: what each client called in all is exact."""
        wanted: Counter[str] = Counter()
        for client, _, calls in edges:
            wanted[self._known(client)] += sum(calls.values())

        def called() -> Counter[str]:
            shown = self.lab.map()  # one: edges of a later one may have other nodes
            names = {one["id"]: one["name"] for one in shown["nodes"]}
            found: Counter[str] = Counter()
            for edge in shown["edges"]:
                if names[edge["client"]] in wanted:
                    total = sum(calls["total"] for calls in edge["calls"])
                    found[names[edge["client"]]] += total
            return found

        wait_for_equal(called, wanted, "each client's calls are exact")
        wait_until(lambda: self.lab.scored().has_right_edges, "the edges are right")
        self.expect_balance()

    def expect_balance(self) -> None:
        """Every exchange and byte that was seen is somewhere, and none was lost on the way."""
        wait_for_equal(
            lambda: self.lab.status(self.agent)["ledger"]["difference"],
            {"exchanges": 0, "bytes": 0},
            "the ledger balances",
            timeout_s=5,
        )

    def wait_until_met(self, word: str) -> None:
        """The agent has read who this program is. One that ends before is called by its comm."""
        wait_until(
            lambda: any(one["name"] == self.name(word) for one in self._nodes()),
            f"the agent knows {word}",
        )

    def node(self, word: str) -> dict[str, Any]:
        """What the map says of a service."""
        (found,) = (one for one in self._nodes() if one["name"] == self.name(word))
        return found

    def _nodes(self) -> list[dict[str, Any]]:
        return list(self.lab.map()["nodes"])

    def _known(self, word: str) -> str:
        return word if word in {*REAL, "local"} else self.name(word)


def expect_right(lab: Lab) -> None:
    """The map has every edge and count of the truth, and no other."""
    wrong = lab.scored().wrong
    assert not wrong, "\n".join(wrong)


def host_with_agent(lab: Lab) -> tuple[Host, Agent]:
    lab.net.network("office", "10.61.0.0/24")
    host = lab.net.host("box", office=11)
    return host, lab.agent(host, {"services": {"rules": RULES}})


@pytest.fixture(scope="module")
def _box() -> Iterator[tuple[Lab, Host, Agent]]:
    with Lab() as lab:
        yield (lab, *host_with_agent(lab))


@pytest.fixture
def stage(
    _box: tuple[Lab, Host, Agent], request: pytest.FixtureRequest
) -> Iterator[Stage]:
    lab, host, agent = _box
    known = request.node.name.removeprefix("test_")
    suffix = "".join(letter if letter.isalnum() else "-" for letter in known)
    yield Stage(lab, host, agent, suffix.strip("-"))
    lab.dismiss()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Give a program of tests/lab/programs."""

    def build(name: str) -> str:
        target = tmp_path_factory.mktemp("programs") / name
        flags = ("-O2", "-Wall", "-Wextra", "-Werror")
        source = PROGRAMS / f"{name}.c"
        subprocess.run(["gcc", *flags, "-o", target, source], check=True)
        return str(target)

    return build
