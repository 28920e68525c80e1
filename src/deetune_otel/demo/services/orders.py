# SPDX-License-Identifier: Apache-2.0
"""The orders service: one event loop, aiohttp at both of its ends.

A program as people write them, without a word about telemetry: a new order asks the
shop for the price, is stored in PostgreSQL over TCP and kept at hand in Redis.
`PORT`, `REDIS_PORT`, `SHOP_PORT` and libpq's `PG*` variables say where things are.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis.asyncio
from aiohttp import ClientSession, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Orders", "main"]

DATABASE_CONNECTIONS: Final = 4
SHUTDOWN_S: Final = 2.0
CACHE_S: Final = 5  # short, so that the database keeps being asked

SCHEMA: Final = """
CREATE TABLE orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product int NOT NULL, quantity int NOT NULL, total int NOT NULL
);
"""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Orders:
    def __init__(
        self,
        *,
        cache: redis.asyncio.Redis,
        database: asyncio.LifoQueue[Connection],
        shop: ClientSession,
    ) -> None:
        self._cache = cache
        self._database = database
        self._shop = shop

    async def create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        product, quantity = int(wanted["product"]), int(wanted["quantity"])
        async with self._shop.get(f"/products/{product}") as answer:
            if answer.status == web.HTTPNotFound.status_code:
                return web.json_response({"error": "no such product"}, status=422)
            answer.raise_for_status()
            price = int((await answer.json())["price"])
        values = (product, quantity, price * quantity)
        order_id = await self._query_one(
            "INSERT INTO orders (product, quantity, total)"
            " VALUES (%s, %s, %s) RETURNING id",
            values,
        )
        order = {"id": order_id, "product": product, "total": values[2]}
        await self._cache.set(f"order:{order_id}", json.dumps(order), ex=CACHE_S)
        return web.json_response(order, status=201)

    async def read(self, request: web.Request) -> web.Response:
        key = f"order:{request.match_info['id']}"
        if cached := await self._cache.get(key):
            return web.json_response(json.loads(cached))
        order = await self._query_one(
            "SELECT json_build_object('id', id, 'product', product, 'total', total)"
            " FROM orders WHERE id = %s",
            (int(request.match_info["id"]),),
        )
        if order is None:
            return web.json_response({"error": "no such order"}, status=404)
        await self._cache.set(key, json.dumps(order), ex=CACHE_S)
        return web.json_response(order)

    async def _query_one(self, statement: str, values: tuple[int, ...]) -> Any:
        connection = await self._database.get()
        try:
            cursor = await connection.execute(statement, values)
            row = await cursor.fetchone()
        finally:
            self._database.put_nowait(connection)
        return row and row[0]


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


@asynccontextmanager
async def opened() -> AsyncIterator[Orders]:
    database: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(DATABASE_CONNECTIONS):
        database.put_nowait(await psycopg.AsyncConnection.connect(autocommit=True))
    first = database.get_nowait()
    await first.execute(SCHEMA)
    database.put_nowait(first)
    shop = f"http://127.0.0.1:{os.environ['SHOP_PORT']}"
    async with (
        redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"])) as cache,
        ClientSession(shop) as session,
    ):
        yield Orders(cache=cache, database=database, shop=session)


async def application() -> web.Application:
    resources = AsyncExitStack()
    orders = await resources.enter_async_context(opened())
    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_post("/orders", orders.create)
    app.router.add_get(r"/orders/{id:\d+}", orders.read)
    app.on_cleanup.append(lambda _: resources.aclose())
    return app


def main() -> None:
    web.run_app(
        application(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        print=None,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
    )


if __name__ == "__main__":
    main()
