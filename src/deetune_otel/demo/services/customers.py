# SPDX-License-Identifier: Apache-2.0
"""The shop's customers: a steady load that knows exactly what it asked and was told.

Requests start on a fixed schedule whatever the answers take (an open loop, so a slow
shop does not quietly lower the load). Half of the customers keep their connections,
the others open one for each request. SIGTERM ends the schedule; the answers under way
are waited for, then the counts go to the file `--report` as one JSON object:

    {"seconds": 9.98, "requests": 799, "operations":
     [{"operation": "GET /products/{id}", "status": 200, "count": 490}, ...]}

A request without an answer has status 0 and the error's name as `error`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["HABITS", "Customers", "Habit", "Outcome", "main"]

TIMEOUT_S: Final = 10.0
UNDER_WAY: Final = 200  # more than the shop ever needs; bounds memory when it hangs

PRODUCTS: Final = 500
FIRST_ORDERS: Final = 40  # these exist within the first seconds


@dataclass(frozen=True, slots=True)
class Habit:
    """Something customers do, `weight` times in a hundred."""

    weight: int
    method: str
    route: str
    path: Callable[[random.Random], str]
    buys: bool = False


HABITS: Final = (
    Habit(50, "GET", "/products/{id}", lambda r: f"/products/{r.randint(1, PRODUCTS)}"),
    Habit(
        4, "GET", "/products/{id}", lambda r: f"/products/{PRODUCTS + r.randint(1, 99)}"
    ),
    Habit(18, "GET", "/orders/{id}", lambda r: f"/orders/{r.randint(1, FIRST_ORDERS)}"),
    Habit(10, "POST", "/orders", lambda _: "/orders", buys=True),
    Habit(12, "POST", "/checkout", lambda _: "/checkout", buys=True),
    Habit(4, "GET", "/search", lambda r: f"/search?q={r.choice(('lamp', 'chair'))}"),
    Habit(2, "GET", "/wishlist", lambda _: "/wishlist"),
)


@dataclass(frozen=True, slots=True, order=True)
class Outcome:
    operation: str
    status: int
    error: str = ""


class Customers:
    """Sends requests to `base_url` until told to stop, and counts what comes back."""

    def __init__(self, base_url: str, *, rate: float, chance: random.Random) -> None:
        self._base_url = base_url
        self._rate = rate
        self._chance = chance
        self._stop = asyncio.Event()
        self._counts: Counter[Outcome] = Counter()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> dict[str, object]:
        """Returns the counts, after the last answer."""
        timeout = ClientTimeout(total=TIMEOUT_S)
        started = time.monotonic()
        async with (
            ClientSession(self._base_url, timeout=timeout) as staying,
            ClientSession(
                self._base_url,
                timeout=timeout,
                connector=TCPConnector(force_close=True),
            ) as passing,
            asyncio.TaskGroup() as requests,
        ):
            room = asyncio.Semaphore(UNDER_WAY)
            for number in range(sys.maxsize):
                due = started + number / self._rate
                if await self._stopped_before(due):
                    break
                await room.acquire()
                session = staying if number % 2 else passing
                task = requests.create_task(self._request(session))
                task.add_done_callback(lambda _: room.release())
        return self._report(time.monotonic() - started)

    async def _stopped_before(self, due: float) -> bool:
        delay = due - time.monotonic()
        if delay > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
        return self._stop.is_set()

    async def _request(self, session: ClientSession) -> None:
        (habit,) = self._chance.choices(HABITS, [habit.weight for habit in HABITS])
        operation = f"{habit.method} {habit.route}"
        wish = {"product": self._chance.randint(1, PRODUCTS), "quantity": 1}
        try:
            async with session.request(
                habit.method,
                habit.path(self._chance),
                json=wish if habit.buys else None,
            ) as response:
                await response.read()
                outcome = Outcome(operation, response.status)
        except (ClientError, TimeoutError) as error:
            outcome = Outcome(operation, 0, type(error).__name__)
        self._counts[outcome] += 1

    def _report(self, seconds: float) -> dict[str, object]:
        return {
            "seconds": round(seconds, 3),
            "requests": self._counts.total(),
            "operations": [
                asdict(outcome) | {"count": count}
                for outcome, count in sorted(self._counts.items())
            ],
        }


async def visit(url: str, rate: float, seed: int) -> dict[str, object]:
    customers = Customers(url, rate=rate, chance=random.Random(seed))  # noqa: S311
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, customers.stop)
    print(f"visiting {url}", flush=True)  # noqa: T201 - who started us waits for it
    return await customers.run()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="customers")
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=80.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args(arguments)
    counts = asyncio.run(visit(args.url, args.rate, args.seed))
    args.report.write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
