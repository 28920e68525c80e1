# SPDX-License-Identifier: Apache-2.0
"""The page as it is sent: read once from the package, checked by nobody afterwards.

`index.html` is `/`; everything else is `/page/NAME`. A browser keeps the files and asks each
time whether they are still the same (`ETag`), so that a new agent never meets an old page.
"""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Final

from deetune_otel.web.reply import Reply, packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

__all__ = ["Assets"]

CONTENT_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
# Nothing from other hosts, nothing inline, in nobody's frame.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
KEPT_BY_THE_BROWSER: Final = {"Cache-Control": "no-cache"}


class Assets:
    """By path. Raises FileNotFoundError where the package came without its page."""

    def __init__(self) -> None:
        folder = resources.files(__package__).joinpath("page")
        self._replies: Mapping[str, Reply] = {
            "/" if name == "index.html" else f"/page/{name}": _reply(name, body)
            for name, body in _files(folder)
        }

    def get(
        self, path: str, *, accept_encoding: str, if_none_match: str
    ) -> Reply | None:
        """None: there is no such file."""
        reply = self._replies.get(path)
        if reply is None:
            return None
        if reply.headers["ETag"] in if_none_match:
            return reply._replace(status=HTTPStatus.NOT_MODIFIED, body=b"")
        return packed(reply, accept_encoding)


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _files(one, f"{above}{one.name}/")
        elif one.name.rpartition(".")[2] in CONTENT_TYPES:
            yield f"{above}{one.name}", one.read_bytes()


def _reply(name: str, body: bytes) -> Reply:
    headers = {
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
        "Content-Security-Policy": PAGE_POLICY,  # a worker's is that of its own file
        **KEPT_BY_THE_BROWSER,
    }
    return Reply(HTTPStatus.OK, CONTENT_TYPES[name.rpartition(".")[2]], body, headers)
