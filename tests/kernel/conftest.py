# SPDX-License-Identifier: Apache-2.0
"""One kernel side for all tests here (the verifier takes seconds), and processes to watch."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest
from tests.kernel.actor import Actor, Ends, Socket
from tests.kernel.observe import Watch, settings

from deetune_otel.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.actor import Address

PROGRAMS: Final = Path(__file__).parent / "programs"


class Watching(Protocol):
    """Loads a kernel side with these settings; at its end the ledger balances."""

    def __call__(self, **changes: object) -> AbstractContextManager[Watch]: ...


class _Shared:
    """The kernel side that most tests use; made anew after a test that broke its ledger."""

    def __init__(self) -> None:
        self._kernel: Kernel | None = None

    def get(self) -> Kernel:
        if self._kernel is None:
            self._kernel = Kernel.open(settings())
        return self._kernel

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


@pytest.fixture(scope="session")
def _shared() -> Iterator[_Shared]:
    shared = _Shared()
    yield shared
    shared.close()


@pytest.fixture
def watch(_shared: _Shared) -> Iterator[Watch]:
    """Watches from here on; the ledger balances when the test's processes have ended."""
    watch = Watch(_shared.get())
    yield watch
    try:
        watch.wait_for_balance()
    except AssertionError:
        _shared.close()
        raise


def _watching() -> Watching:
    @contextmanager
    def opened(**changes: object) -> Iterator[Watch]:
        kernel = Kernel.open(settings(**changes))
        try:
            watch = Watch(kernel)
            yield watch
            watch.wait_for_balance()
        finally:
            kernel.close()

    return opened


@pytest.fixture
def watching() -> Watching:
    """Gives kernel sides with settings of their own."""
    return _watching()


@pytest.fixture(scope="module")
def module_watching() -> Watching:
    """The same for a module's own fixtures."""
    return _watching()


@pytest.fixture
def actors(watch: Watch) -> Iterator[Callable[[], Actor]]:
    """Starts processes that do as they are told; they end before the ledger is looked at."""
    del watch
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Actor())


@pytest.fixture
def client(actors: Callable[[], Actor]) -> Actor:
    return actors()


@pytest.fixture
def server(actors: Callable[[], Actor]) -> Actor:
    return actors()


@pytest.fixture
def connect(client: Actor, server: Actor) -> Callable[..., Ends]:
    """Makes connections from `client` to `server`."""
    listening: dict[Address, tuple[Socket, Address]] = {}

    def connected(address: Address = ("127.0.0.1", 0)) -> Ends:
        if address not in listening:
            listening[address] = server.listen(address)
        listener, bound = listening[address]
        here = client.connect(bound)
        return Ends(here, listener.accept())

    return connected


@pytest.fixture(scope="session")
def syscalls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of programs/syscalls.c."""
    return compiled(
        tmp_path_factory.mktemp("syscalls"), "syscalls.c", "-shared", "-fPIC"
    )


def compiled(folder: Path, source: str, *flags: str) -> Path:
    """A program of tests/kernel/programs."""
    target = folder / source.removesuffix(".c")
    subprocess.run(
        [
            *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", *flags),
            *("-o", target, PROGRAMS / source),
        ],
        check=True,
    )
    return target
