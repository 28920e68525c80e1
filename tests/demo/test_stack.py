# SPDX-License-Identifier: Apache-2.0
"""The whole shop, really started: it serves, it is loaded, and it leaves nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.process import wait_until

from deetune_otel.demo import stack
from deetune_otel.demo.program import NotInstalledError
from deetune_otel.demo.stack import Stack, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shop() -> Iterator[Stack]:
    said: list[str] = []
    with opened(said.append) as running:
        assert said[0] == "starting redis-server"
        yield running
    assert not running.folder.exists()
    assert programs_at(running.folder) == []


def ask(shop: Stack, method: str, path: str, body: object = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", shop.ports.nginx, timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_product_is_the_same_from_the_database_and_from_the_cache(
    shop: Stack,
) -> None:
    lamp = {"id": 7, "name": "Product 7", "price": 149}
    assert ask(shop, "GET", "/products/7") == (200, lamp)
    assert ask(shop, "GET", "/products/7") == (200, lamp)


def test_an_order_is_priced_by_the_shop_and_kept(shop: Stack) -> None:
    status, order = ask(shop, "POST", "/orders", {"product": 7, "quantity": 3})
    assert isinstance(order, dict)
    assert (status, order["total"]) == (201, 447)
    assert ask(shop, "GET", f"/orders/{order['id']}") == (200, order)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/products/501", None, 404),
        ("GET", "/orders/999999", None, 404),
        ("GET", "/wishlist", None, 404),
        ("POST", "/products/1", {}, 404),
        ("POST", "/orders", {"product": 501, "quantity": 1}, 422),
        ("GET", "/search?q=lamp", None, 200),
        ("GET", "/health", None, 200),
    ],
)
def test_other_answers(
    shop: Stack, method: str, path: str, body: object, status: int
) -> None:
    assert ask(shop, method, path, body)[0] == status


def test_a_checkout_is_paid_or_declined(shop: Stack) -> None:
    basket = {"product": 1, "quantity": 1}
    statuses = {ask(shop, "POST", "/checkout", basket)[0] for _ in range(100)}
    assert statuses == {200, 500}


def test_customers_see_every_kind_of_answer(shop: Stack) -> None:
    before = newest_order(shop)
    with shop.customers(rate=150) as customers:
        wait_until(
            lambda: newest_order(shop) - before > 150,  # half of them are the looks
            "the customers have ordered",
            timeout_s=30,
        )
        counts = customers.finish()
    seen = {(one["operation"], one["status"]) for one in counts["operations"]}
    assert {
        ("GET /products/{id}", 200),
        ("GET /search", 200),
        ("POST /orders", 201),
        ("POST /checkout", 200),
    } <= seen
    assert sum(one["count"] for one in counts["operations"]) == counts["requests"]
    assert not [one for one in counts["operations"] if one["error"]]


def newest_order(shop: Stack) -> int:
    """Makes an order to learn its number: each gets the next one."""
    _, order = ask(shop, "POST", "/orders", {"product": 1, "quantity": 1})
    assert isinstance(order, dict)
    return int(order["id"])


def test_services_are_known_by_their_script_alone(shop: Stack) -> None:
    named = [
        process
        for process in programs_at(shop.folder)
        if Path(process.cmdline()[-1]).name in ("shop.py", "orders.py")
    ]
    assert len(named) == 2
    assert not [p for p in named if any(key.startswith("OTEL") for key in p.environ())]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_is_left_when_we_are_ended(number: signal.Signals) -> None:
    code = (
        "import signal, time\n"
        "from deetune_otel.demo.stack import opened\n"
        # who runs us behind nohup ignores it, and that is inherited
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "with opened(lambda _: None) as shop, shop.customers(rate=20):\n"
        "    print(shop.folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        try:
            assert parent.stdout is not None
            folder = Path(parent.stdout.readline().decode().strip())
            assert len(programs_at(folder)) > 5
            parent.send_signal(number)
            parent.wait(10)
        finally:
            parent.kill()
    wait_until(lambda: not programs_at(folder), "all programs ended")
    wait_until(lambda: not folder.exists(), "the folder is gone")


def test_a_missing_python_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PYTHON_PACKAGES", ("aiohttp", "no_such_package"))
    with (
        pytest.raises(
            NotInstalledError, match=r"no_such_package.*deetune-otel\[demo\]"
        ),
        opened(print),
    ):
        pass


def programs_at(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory is in the folder: all of the shop's are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(f"{folder}/"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
