# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from deetune_otel.comparison.clusters import (
    MAX_EXAMPLES,
    Cluster,
    Example,
    cluster,
    short,
)
from deetune_otel.comparison.judging import Answer, Finding, Outcome, Verdict
from deetune_otel.model import Protocol
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    HttpRequest,
    RecordedExchange,
)


def verdict(number: int, *findings: Finding) -> Verdict:
    exchange = RecordedExchange(
        id=f"{number:016x}",
        connection=Connection(
            id="00000000000000aa",
            protocol=Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=HttpRequest(method="GET", target="/a"),
        response=None,
        request_start_ns=0,
        request_end_ns=0,
    )
    return Verdict(
        exchange=exchange,
        answer=Answer(None),
        outcome=Outcome.DIFFERENT,
        findings=findings,
    )


def test_indexes_do_not_make_another_one() -> None:
    price = [Finding(f"$.items[{n}].price", "value", 1, 2) for n in range(3)]
    found = cluster([verdict(n, *price) for n in range(9)])
    (one,) = found
    assert (one.place, one.count, one.exchanges) == ("$.items[*].price", 27, 9)
    assert len(one.examples) == MAX_EXAMPLES
    assert one.examples[0] == Example("0" * 16, "$.items[0].price", 1, 2)
    assert one.say() == "GET /a: $.items[*].price 1 → 2"


def test_other_statuses_do() -> None:
    statuses = [Finding("status", "value", 200, to) for to in (404, 503, 503)]
    found = cluster([verdict(n, one) for n, one in enumerate(statuses)])
    assert [(one.exchanges, one.say()) for one in found] == [
        (2, "GET /a: status 200 → 503"),
        (1, "GET /a: status 200 → 404"),
    ]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "GET /: $.a is missing, was x"),
        ("extra", "GET /: $.a is new: an object of 1 fields"),
        ("order", "GET /: $.a has the same elements in another order"),
        ("type", "GET /: $.a is of another type: x → an object of 1 fields"),
    ],
)
def test_what_it_says(kind: str, said: str) -> None:
    one = Cluster(
        operation="GET /",
        place="$.a",
        kind=kind,
        count=1,
        exchanges=1,
        examples=(Example("", "$.a", "x", {"a": 1}),),
    )
    assert one.say() == said


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1.5, "1.5"), ("a" * 99, "a" * 59 + "…")],
)
def test_values_in_short(value: object, text: str) -> None:
    assert short(value) == text
    assert "bits" in short(10**5000)
