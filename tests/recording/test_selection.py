# SPDX-License-Identifier: Apache-2.0
"""Which exchanges are chosen, by which condition others are not, and what sampling keeps."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any, Final

import pytest

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs import redis
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    HttpResponse,
    Process,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.recording.selection import (
    Direction,
    SampleBy,
    Sampling,
    Selection,
    path_of,
)

CONNECTION: Final = Connection(
    id="00000000000000aa",
    protocol=Protocol.HTTP,
    client=Endpoint("10.1.2.3", 5000),
    server=Endpoint("10.9.0.1", 8080),
    server_process=Process("shop-orders"),
)
EXCHANGE: Final = RecordedExchange(
    id="00000000000000ee",
    connection=CONNECTION,
    request=HttpRequest(
        method="GET",
        target="/orders/7/items?session=s1&x=2",
        headers=(("X-Tenant", "acme-eu"), ("Cookie", "a=b; session=c1")),
    ),
    response=HttpResponse(status=404),
    request_start_ns=1_000_000_000,
    request_end_ns=1_000_000_000,
    response_start_ns=1_300_000_000,
    response_end_ns=1_300_000_000,
    trace_id="0" * 31 + "7",
    operation="GET /orders/{id}/items",
)
COMMAND: Final = replace(
    EXCHANGE,
    connection=replace(CONNECTION, protocol=Protocol.REDIS),
    request=RedisCommand(arguments=(b"GET", b"user:7")),
    response=None,
    operation="GET",
)


def test_nothing_asked_is_everything() -> None:
    assert Selection().is_empty
    assert Selection().says() == "everything"
    assert Selection().why_not(EXCHANGE) is None


@pytest.mark.parametrize(
    ("why", "holds", "does_not"),
    [
        ("service", {"services": ("x", "shop-*")}, {"services": ("shop",)}),
        (
            "protocol",
            {"protocols": frozenset({Protocol.HTTP})},
            {"protocols": frozenset({Protocol.REDIS})},
        ),
        ("operation", {"operations": ("GET /orders/*",)}, {"operations": ("POST *",)}),
        ("method", {"methods": ("POST", "GET")}, {"methods": ("POST",)}),
        ("path", {"paths": ("/orders/*",)}, {"paths": ("/orders", "*session*")}),
        ("status", {"statuses": ("404",)}, {"statuses": ("403",)}),
        ("status", {"statuses": ("4xx", "5xx")}, {"statuses": ("5xx",)}),
        ("status", {"statuses": ("ok",)}, {"statuses": ("error",)}),
        (
            "header",
            {"headers": (("x-tenant", "acme*"),)},
            {"headers": (("x-tenant", "acme*"), ("x-other", "*"))},
        ),
        ("latency", {"min_latency_ns": 300_000_000}, {"min_latency_ns": 300_000_001}),
        (
            "peer",
            {"peers": (ip_network("10.1.0.0/16"),)},
            {"peers": (ip_network("10.9.0.0/16"),)},
        ),
        ("port", {"ports": (80, 8080)}, {"ports": (5000,)}),
        (
            "direction",
            {"directions": frozenset({Direction.SERVER})},
            {"directions": frozenset({Direction.CLIENT})},
        ),
        (
            "trace",
            {"traces": frozenset({EXCHANGE.trace_id})},
            {"traces": frozenset({"0" * 31 + "8"})},
        ),
        (
            "exchange",
            {"exchanges": frozenset({EXCHANGE.id})},
            {"exchanges": frozenset({"00000000000000ef"})},
        ),
    ],
)
def test_a_condition(why: str, holds: dict[str, Any], does_not: dict[str, Any]) -> None:
    assert Selection(**holds).why_not(EXCHANGE) is None
    assert Selection(**does_not).why_not(EXCHANGE) == why
    assert not Selection(**holds).is_empty
    assert Selection(**holds).says() != "everything"


def test_all_conditions_must_hold_and_the_first_that_does_not_is_named() -> None:
    both = Selection(methods=("GET",), paths=("/x",), statuses=("500",))
    assert both.why_not(EXCHANGE) == "path"


def test_what_an_exchange_cannot_have_does_not_hold() -> None:
    assert Selection(paths=("*",)).why_not(COMMAND) == "path"
    assert Selection(methods=("GET",)).why_not(COMMAND) == "method"
    assert Selection(headers=(("a", "*"),)).why_not(COMMAND) == "header"
    assert Selection(operations=("GET",)).why_not(COMMAND) is None


def test_no_response_is_an_error() -> None:
    assert Selection(statuses=("error",)).why_not(COMMAND) is None
    assert Selection(statuses=("ok",)).why_not(COMMAND) == "status"
    assert Selection(statuses=("404",)).why_not(COMMAND) == "status"


def test_an_error_of_redis_is_an_error() -> None:
    failed = replace(COMMAND, response=RedisReply(value=redis.Error("ERR no")))
    assert Selection(statuses=("error",)).why_not(failed) is None
    assert Selection(statuses=("ok",)).why_not(failed) == "status"
    well = replace(COMMAND, response=RedisReply(value=redis.Nil()))
    assert Selection(statuses=("ok",)).why_not(well) is None


def test_a_persons_words() -> None:
    asked = Selection(
        services=("shop-*",), statuses=("5xx", "404"), min_latency_ns=250_000_000
    )
    assert asked.says() == "service shop-*, status 404 or 5xx, slower than 250 ms"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b?c=/d", "/a/b"),
        ("/a#x?y", "/a"),
        ("http://h:80/a?b", "/a"),
        ("http://h", "/"),
        ("*", "*"),
        ("/r?u=http://h/x", "/r"),
    ],
)
def test_the_path_of_a_target(target: str, path: str) -> None:
    assert path_of(target) == path


def _kept(sampling: Sampling, count: int = 2000) -> list[bool]:
    return [
        sampling.keeps(
            replace(
                EXCHANGE,
                connection=replace(CONNECTION, id=f"{i % 50:016x}"),
                trace_id=f"{i:032x}",
                request=HttpRequest(
                    method="GET",
                    target=f"/?session={i % 40}",
                    headers=(("Cookie", f"session={i % 40}"), ("S", f"{i % 40}")),
                ),
            )
        )
        for i in range(count)
    ]


def test_a_connection_is_kept_as_a_whole() -> None:
    kept = _kept(Sampling(fraction=0.5))
    assert all(kept[i] == kept[i % 50] for i in range(len(kept)))
    assert len(set(kept)) == 2


def test_a_share_of_the_traces_is_kept() -> None:
    kept = _kept(Sampling(by=SampleBy.TRACE, fraction=0.25))
    assert 400 < sum(kept) < 600


@pytest.mark.parametrize("key", ["cookie:session", "query:session", "header:s"])
def test_a_session_is_kept_as_a_whole(key: str) -> None:
    kept = _kept(Sampling(by=SampleBy.KEY, fraction=0.5, key=key))
    assert all(kept[i] == kept[i % 40] for i in range(len(kept)))
    assert len(set(kept)) == 2


def test_what_has_no_key_goes_by_its_connection() -> None:
    by_key = Sampling(by=SampleBy.KEY, fraction=0.5, key="cookie:none")
    assert _kept(by_key) == _kept(Sampling(fraction=0.5))
    argument = Sampling(by=SampleBy.KEY, fraction=0.5, key="argument:1")
    commands = [
        replace(COMMAND, request=RedisCommand(arguments=(b"GET", b"%d" % i)))
        for i in range(100)
    ]
    assert len({argument.keeps(one) for one in commands}) == 2


def test_all_are_kept_without_a_share() -> None:
    assert all(_kept(Sampling(), 100))


@pytest.mark.parametrize(
    "given",
    [
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"by": SampleBy.KEY},
        {"key": "cookie:a"},
        {"by": SampleBy.KEY, "key": "cookies:a"},
        {"by": SampleBy.KEY, "key": "cookie:"},
        {"by": SampleBy.KEY, "key": "argument:x"},
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"share|key|none of|number"):
        Sampling(**given)
