# SPDX-License-Identifier: Apache-2.0
"""The shop's catalogue and checkout: one thread a connection, standard library HTTP.

A program as people write them, without a word about telemetry: products come from
Redis, or from PostgreSQL over its Unix socket when Redis has none; a search is slow
because the database is; a checkout asks the orders service and sometimes fails.
`PORT`, `REDIS_PORT`, `ORDERS_PORT` and libpq's `PG*` variables say where things are.
"""

from __future__ import annotations

import json
import os
import random
import re
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import psycopg
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Shop", "main"]

SEARCH_S: Final = 0.3
DECLINED_SHARE: Final = 0.06  # of the checkouts: enough to be seen within seconds
CACHE_S: Final = 5  # short, so that the database keeps being asked
ORDERS_TIMEOUT_S: Final = 5.0

SCHEMA: Final = """
CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price int NOT NULL);
INSERT INTO products
    SELECT id, 'Product ' || id, 100 + id * 7 FROM generate_series(1, 500) id;
"""

Answer = tuple[HTTPStatus, object]


class Closeable(Protocol):
    def close(self) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=Closeable)


class Pool(Generic[ConnectionT]):
    """Connections that threads share; one that failed is closed, not given back."""

    def __init__(self, connect: Callable[[], ConnectionT]) -> None:
        self._connect = connect
        self._idle: LifoQueue[ConnectionT] = LifoQueue()

    @contextmanager
    def borrow(self) -> Iterator[ConnectionT]:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)


class Shop:
    """What the shop can do, each in one method; HTTP is the handler's."""

    def __init__(
        self,
        *,
        cache: redis.Redis,
        database: Pool[psycopg.Connection[tuple[Any, ...]]],
        orders: Pool[HTTPConnection],
    ) -> None:
        self._cache = cache
        self._database = database
        self._orders = orders

    def product(self, number: str) -> Answer:
        key = f"product:{number}"
        if cached := self._cache.get(key):
            return HTTPStatus.OK, json.loads(cached)
        with self._database.borrow() as connection:
            row = connection.execute(
                "SELECT id, name, price FROM products WHERE id = %s", (int(number),)
            ).fetchone()
        if row is None:
            return HTTPStatus.NOT_FOUND, {"error": "no such product"}
        product = dict(zip(("id", "name", "price"), row, strict=True))
        self._cache.set(key, json.dumps(product), ex=CACHE_S)
        return HTTPStatus.OK, product

    def search(self) -> Answer:
        with self._database.borrow() as connection:
            rows = connection.execute(
                "SELECT id, name FROM products, pg_sleep(%s) ORDER BY price DESC LIMIT 10",
                (SEARCH_S,),
            ).fetchall()
        return HTTPStatus.OK, rows

    def checkout(self, body: bytes) -> Answer:
        with self._orders.borrow() as connection:
            connection.request(
                "POST", "/orders", body, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            order = json.loads(response.read())
        if response.status != HTTPStatus.CREATED:
            return HTTPStatus.BAD_GATEWAY, order
        if random.random() < DECLINED_SHARE:  # noqa: S311 (no secret)
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "payment declined"}
        return HTTPStatus.OK, {"paid": order}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for head and body: two would wait for a delayed ACK

    def __init__(self, shop: Shop, *args: Any) -> None:
        self._shop = shop
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/products/(\d{1,9})", path):
            self._answer(*self._shop.product(found[1]))
        elif path == "/search":
            self._answer(*self._shop.search())
        elif path == "/health":
            self._answer(HTTPStatus.OK, {"status": "ok"})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/checkout":
            self._answer(*self._shop.checkout(body))
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "no such page"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing for each request: the log is for what goes wrong."""

    def _answer(self, status: HTTPStatus, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(build: type[Shop] = Shop, *, schema: str = SCHEMA) -> None:
    """Serves until it is ended. A second build beside this one has the tables already."""
    database = Pool(partial(psycopg.connect, autocommit=True))
    if schema:
        with database.borrow() as connection:
            connection.execute(schema.encode())
    shop = build(
        cache=redis.Redis(port=int(os.environ["REDIS_PORT"])),
        database=database,
        orders=Pool(
            lambda: HTTPConnection(
                "127.0.0.1", int(os.environ["ORDERS_PORT"]), timeout=ORDERS_TIMEOUT_S
            )
        ),
    )
    address = ("127.0.0.1", int(os.environ["PORT"]))
    ThreadingHTTPServer(address, partial(Handler, shop)).serve_forever()


if __name__ == "__main__":
    main()
