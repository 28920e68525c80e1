# SPDX-License-Identifier: Apache-2.0
"""The page's files: what is served, how, and that it is what it says it is."""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from importlib import resources

import pytest

from deetune_otel.web.assets import Assets

PAGE = resources.files("deetune_otel.web").joinpath("page")


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets()


def get(
    assets: Assets, path: str, *, encoding: str = "", match: str = ""
) -> tuple[int, str, bytes, dict[str, str]]:
    reply = assets.get(path, accept_encoding=encoding, if_none_match=match)
    assert reply is not None, path
    return reply.status, reply.content_type, reply.body, dict(reply.headers)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/map.css", "text/css; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/vendor/dagre.esm.js", "text/javascript; charset=utf-8"),
        ("/page/vendor/dagre-LICENSE.txt", "text/plain; charset=utf-8"),
    ],
)
def test_every_file_has_its_type_and_the_policy(
    assets: Assets, path: str, content_type: str
) -> None:
    status, found, body, headers = get(assets, path)
    assert (status, found) == (HTTPStatus.OK, content_type)
    assert body
    policy = dict(
        directive.split(" ", 1)
        for directive in headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == policy["worker-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/../api.py", "/page/none.js", "/page/vendor"])  # fmt: skip
def test_nothing_else_is_there(assets: Assets, path: str) -> None:
    assert assets.get(path, accept_encoding="", if_none_match="") is None


def test_what_the_browser_has_is_not_sent_again(assets: Assets) -> None:
    tag = get(assets, "/page/main.js")[3]["ETag"]
    status, _, body, headers = get(assets, "/page/main.js", match=f'"other", {tag}')
    assert (status, body) == (HTTPStatus.NOT_MODIFIED, b"")
    assert headers["ETag"] == tag
    assert get(assets, "/page/main.js", match='"other"')[0] == HTTPStatus.OK


def test_large_files_are_packed(assets: Assets) -> None:
    plain = get(assets, "/page/vendor/dagre.esm.js")[2]
    small = get(assets, "/page/vendor/dagre.esm.js", encoding="gzip")[2]
    assert len(small) < len(plain) / 2


def test_vendored_files_are_as_they_were_published() -> None:
    vendor = PAGE.joinpath("vendor")
    noted = re.findall(
        r"^(\S+\.js)\s+\S+\s+[\d.]+\s+\w+ \((\S+)\)\s+([0-9a-f]{64})$",
        vendor.joinpath("README.txt").read_text(),
        re.MULTILINE,
    )
    there = {one.name for one in vendor.iterdir() if one.name.endswith(".js")}
    assert {name for name, _, _ in noted} == there
    for name, licence, checksum in noted:
        assert (
            hashlib.sha256(vendor.joinpath(name).read_bytes()).hexdigest() == checksum
        )
        assert "Permission is hereby granted" in vendor.joinpath(licence).read_text()


def test_what_the_page_asks_for_is_there(assets: Assets) -> None:
    """Every import, and every file that the HTML names."""
    asked = set(
        re.findall(
            r'(?:href|src)="(page/[^"]+)"', PAGE.joinpath("index.html").read_text()
        )
    )
    for one in PAGE.iterdir():
        if one.name.endswith(".js"):
            text = one.read_text()
            asked |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
            asked |= {
                f"page/{name}" for name in re.findall(r'new URL\("([^"]+)"', text)
            }
    assert {
        "page/main.js",
        "page/layout-worker.js",
        "page/vendor/dagre.esm.js",
    } <= asked
    for path in asked:
        assert get(assets, f"/{path}")[0] == HTTPStatus.OK


def test_nothing_is_inline_and_nothing_is_elsewhere() -> None:
    html = PAGE.joinpath("index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    for one in PAGE.iterdir():
        if one.is_file():
            found = re.findall(r"https?://[^\s\"'`)]+", one.read_text())
            assert set(found) <= {"http://www.w3.org/2000/svg"}, one.name
