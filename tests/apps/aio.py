# SPDX-License-Identifier: Apache-2.0
"""`stock`: all connections in one asyncio loop. Every request is one GET in Redis.

python aio.py PORT REDIS_PORT
"""

from __future__ import annotations

import asyncio
import sys

from tests.apps.resp import command

PORT, REDIS_PORT = map(int, sys.argv[1:3])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until it ends."""
    from_redis, to_redis = await asyncio.open_connection("127.0.0.1", REDIS_PORT)
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            to_redis.write(command("GET", path))
            reply = await from_redis.readline()
            if not reply.startswith(b"$-1"):
                await from_redis.readexactly(int(reply[1:]) + 2)
            body = b"in stock\n"
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        to_redis.close()
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
