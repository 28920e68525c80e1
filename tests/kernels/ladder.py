# SPDX-License-Identifier: Apache-2.0
"""The kernel side on the running kernel, against known traffic: what was sent, what was counted.

    python -m tests.kernels.ladder

Prints one line of JSON and judges nothing: that is test_kernels.py's part. Runs on whatever kernel
it is started on, the machine's own or one in a virtual machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.kernel.held import held, still_there
from tests.kernel.observe import Watch, settings
from tests.kernels.traffic import REFUSED
from tests.process import free_port, wait_until

from deetune_otel.kernel import Kernel
from deetune_otel.kernel.errors import KernelUnavailable
from deetune_otel.model import Edge, LedgerLine, Transport

if TYPE_CHECKING:
    from types import TracebackType

    from tests.kernels.traffic import Told

ROOT: Final = Path(__file__).resolve().parents[2]
# A DNS question is given up after 10 s; an emulated processor needs some for the rest.
SETTLE_S: Final = 60
RELEASE_S: Final = 30
Places = dict[tuple[Transport, int | str], str]


class Program:
    """One end of the traffic; see tests/kernels/traffic.py."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kernels.traffic", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid: Final = self._process.pid
        self.first: Final = self.answer()

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "a program of the traffic ended; its error is above"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Clock:
    """Seconds of each part."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {"up": round(self._last, 1)}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self._last, 1)
        self._last = now


def climb(folder: Path) -> dict[str, Any]:
    """Everything that can be said of this kernel."""
    clock = Clock()
    found: dict[str, Any] = {
        "release": os.uname().release,
        "refused": None,
        "seconds": clock.seconds,
    }
    port = free_port()
    with (
        Program("server", str(folder)) as server,
        Program("client", json.dumps(server.first), str(port)) as client,
    ):
        ends = {"client": client, "server": server}
        _both(ends, "before")
        clock.lap("start")
        try:
            kernel = Kernel.open(settings())
        except KernelUnavailable as error:
            found["refused"] = str(error)
            found["check"] = _checked()
            return found
        finally:
            clock.lap("open")
        found["without"] = [str(one.refusal) for one in kernel.tried.refused]
        try:
            ids = held()
            found |= _watched(kernel, ends, _places(server.first, port), clock)
        finally:
            kernel.close()
        wait_until(lambda: not still_there(ids), "all is gone", timeout_s=RELEASE_S)
        clock.lap("close")
        found["held"] = {name: len(numbers) for name, numbers in ids.items()}
    return found


def _checked() -> dict[str, Any]:
    """What `deetune check` says."""
    done = subprocess.run(
        [sys.executable, "-m", "deetune_otel", "check", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    missing = [one["what"] for one in said["kernel"]["missing"]]
    return {"code": done.returncode, "usable": said["usable"], "missing": missing}


def _watched(
    kernel: Kernel, ends: dict[str, Program], places: Places, clock: Clock
) -> dict[str, Any]:
    watch = Watch(kernel)
    with kernel.measuring_cost():
        told: dict[str, Told] = _both(ends, "traffic")
        clock.lap("traffic")
    counted: dict[str, Told] = {}
    ledger = kernel.read_ledger()

    def settled() -> bool:
        nonlocal counted, ledger
        kernel.read_traffic()  # visits what is live: ends that no program saw are found so
        ledger = kernel.read_ledger()  # first: what is open now may be counted below
        counted = {name: _counted(watch, end, places) for name, end in ends.items()}
        return counted == told or (*ledger.open, *ledger.difference) == (0, 0, 0, 0)

    try:
        wait_until(settled, "all is counted", timeout_s=SETTLE_S)
    except AssertionError as error:
        sys.stderr.write(f"{error}\n")
    ledger = kernel.read_ledger()
    clock.lap("settle")
    kernel.detach()
    _both(ends, "after")
    again = {name: _counted(watch, end, places) for name, end in ends.items()}
    clock.lap("detach")
    return {
        "told": told,
        "counted": counted,
        "counted_after_detach": again,
        "ledger": {
            "seen": ledger.seen,
            "counted": ledger.counted,
            "open": ledger.open,
            "difference": ledger.difference,
            "lost": _some(ledger.lost),
            "noted": _some(ledger.noted),
        },
        "programs": {
            name: {
                "verified_instructions": cost.verified_instructions,
                "runs": cost.runs,
                "recursion_misses": cost.recursion_misses,
            }
            for name, cost in kernel.cost().items()
        },
    }


def _both(ends: dict[str, Program], word: str) -> dict[str, Any]:
    """Both do it at the same time."""
    for end in ends.values():
        end.tell(word)
    return {name: end.answer() for name, end in ends.items()}


def _places(addresses: dict[str, Any], refusing: int) -> Places:
    """Steps by what an edge says of its server."""
    places: Places = {(Transport.TCP, refusing): REFUSED.name}
    for name, address in addresses.items():
        if isinstance(address, str):
            places[Transport.UNIX, address] = name
        else:
            is_udp = name.startswith("dns")
            places[Transport.UDP if is_udp else Transport.TCP, address[1]] = name
    return places


def _counted(watch: Watch, end: Program, places: Places) -> Told:
    """In the words of the traffic's programs."""
    sums: Told = {}
    for edge, key, value in watch.series(end.pid):
        step = sums.setdefault(_step(edge, places), {})
        name = f"{edge.role} {key.protocol} {key.outcome} {key.end}"
        row = step.setdefault(name, [0, 0, 0])
        row[0] += value.count
        row[1] += value.request_bytes
        row[2] += value.response_bytes
    return sums


def _step(edge: Edge, places: Places) -> str:
    server = edge.peer_address if edge.transport is Transport.UNIX else edge.server_port
    return places.get((edge.transport, server), f"{edge.transport} {server}")


def _some(lines: dict[str, LedgerLine]) -> dict[str, LedgerLine]:
    return {name: line for name, line in lines.items() if any(line)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = climb(Path(folder))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
