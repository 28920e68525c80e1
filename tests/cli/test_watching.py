# SPDX-License-Identifier: Apache-2.0
"""Whom a command asks: who is named, who runs, or one of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.process import free_port
from tests.topology.maps import service_map
from tests.web.serving import serving

from deetune_otel.cli import watching
from deetune_otel.cli.errors import CommandError
from deetune_otel.web.client import AgentError

if TYPE_CHECKING:
    from tests.web.serving import Answer


def idle_agent(target: str) -> Answer:
    assert target == "/status"
    return 200, b'{"ledger": {}}'


def test_who_is_named_is_asked() -> None:
    said: list[str] = []
    with (
        serving(idle_agent) as url,
        watching.watching(url, say=said.append) as watched,
    ):
        assert not watched.is_own
        assert watched.name == url
    assert said == []


def test_who_runs_at_the_default_address_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(idle_agent) as url:
        monkeypatch.setattr(watching, "DEFAULT_URL", url)
        with watching.watching(None, say=print) as watched:
            assert watched.name == url


def test_in_place_of_who_is_named_no_other_is_asked() -> None:
    with (
        pytest.raises(CommandError, match="nothing listens there"),
        watching.watching(f"http://127.0.0.1:{free_port()}", say=print),
    ):
        pytest.fail("nobody is there")


def test_another_server_at_the_default_address_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The agent that was meant may listen elsewhere: a second one would not be it."""
    with serving(lambda _: (200, b"hello")) as url:
        monkeypatch.setattr(watching, "DEFAULT_URL", url)
        with (
            pytest.raises(CommandError, match="not a deetune agent"),
            watching.watching(None, say=print),
        ):
            pytest.fail("an agent was found")


def test_an_agent_that_fails_later_ends_the_command_with_its_hint() -> None:
    with (
        serving(idle_agent) as url,
        pytest.raises(CommandError, match="gone") as caught,
        watching.watching(url, say=print),
    ):
        raise AgentError("gone", hint="look there")
    assert caught.value.hint == "look there"


def without_rights(code: str) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    return subprocess.run(
        [*drop, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.kernel
def test_without_rights_both_ways_out_are_said() -> None:
    done = without_rights(
        "import sys; from deetune_otel.cli import main, watching;"
        f"watching.DEFAULT_URL = 'http://127.0.0.1:{free_port()}';"
        "sys.exit(main(['map']))"
    )
    assert done.returncode == 3, done.stderr
    assert "none can be started here" in done.stderr
    assert "deetune run" in done.stderr
    assert "--url" in done.stderr
    assert "watch from here" in done.stderr


@pytest.mark.kernel
def test_where_none_runs_an_agent_of_its_own_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(watching, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")
    with watching.watching(None, say=said.append) as watched:
        assert watched.is_own
        seen = watched.source.service_map(window_s=60)
    assert type(seen) is type(service_map())
    assert len(said) == 1
