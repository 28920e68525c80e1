# SPDX-License-Identifier: Apache-2.0
"""A real haproxy, which tells a real nginx who its client is and looks whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from tests.kernel.observe import Watch, http
from tests.process import Child, answers, free_port, wait_until
from tests.programs import Client, program

from deetune_otel.model import Protocol, Role

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.kernel

REQUESTS: Final = 50
CHECKS: Final = 20

NGINX: Final = """\
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr\\n"; }}
    }}
}}
"""

HAPROXY: Final = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 5s
    timeout server 5s
listen front
    bind 127.0.0.1:{port}
    server app 127.0.0.1:{to} {send} check inter 20ms check-send-proxy
"""


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_haproxy_before_nginx(
    watch: Watch, tmp_path: Path, mode: str, send: str
) -> None:
    """Each request is counted at both ends, by its status; a health check is no failed call."""
    to, port = free_port(), free_port()
    (tmp_path / "nginx.conf").write_text(NGINX.format(port=to))
    (tmp_path / "haproxy.cfg").write_text(
        HAPROXY.format(port=port, to=to, mode=mode, send=send)
    )
    with (
        Child(
            [program("nginx", "nginx"), "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
            log=tmp_path / "nginx.log",
        ) as nginx,
        Child(
            [program("haproxy", "haproxy"), "-f", tmp_path / "haproxy.cfg"],
            log=tmp_path / "haproxy.log",
        ) as haproxy,
    ):
        nginx.wait_ready(lambda: answers(to), "nginx accepts connections")
        haproxy.wait_ready(lambda: answers(port), "haproxy accepts connections")
        with Client.start(tmp_path, port, count=REQUESTS, paths=["/"]) as client:
            assert client.result() == {200: REQUESTS}
        workers = watch.children(nginx.pid, "nginx")

        def looked() -> bool:
            return sum(one.opened for _, one in watch.traffic(*workers)) > CHECKS

        wait_until(looked, "haproxy has looked often whether nginx is there")
        watch_only(watch, workers, Role.SERVER)
        watch_only(watch, {haproxy.pid}, Role.CLIENT)


def watch_only(watch: Watch, pids: set[int], role: Role) -> None:
    """These requests, and nothing else, were counted in that role."""
    found = {
        call: calls.number
        for call, calls in watch.calls(*pids).items()
        if call.role is role and call.protocol is not Protocol.CONNECT
    }
    assert found == {http(role): REQUESTS}
