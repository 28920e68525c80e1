# SPDX-License-Identifier: Apache-2.0
"""What a scrape reads, by prometheus_client's own parsers of both formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from tests.export.makers import (
    DELTA,
    START_NS,
    buckets,
    counter,
    exemplar,
    gauge,
    histogram,
    joined,
    number,
    reading,
)
from tests.export.parsers import parse_openmetrics, parse_text

from deetune_otel.export.prometheus import LINES_A_PIECE, Exposition

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scrape(data: MetricsData, accept: str = "") -> str:
    return b"".join(Exposition(lambda: data).written(accept)[1]).decode()


def samples(data: MetricsData) -> dict[tuple[str, tuple[tuple[str, str], ...]], Any]:
    """Of both formats, which must say the same; no series may be there twice."""
    found = []
    for families in (
        parse_text(scrape(data)),
        parse_openmetrics(scrape(data, OPENMETRICS)),
    ):
        listed = [
            ((s.name, tuple(sorted(s.labels.items()))), s.value)
            for family in families
            for s in family.samples
        ]
        assert len(dict(listed)) == len(listed)
        found.append(dict(listed))
    assert found[0] == found[1]
    return found[0]


def named(data: MetricsData, name: str) -> list[tuple[dict[str, str], Any]]:
    return [(dict(labels), v) for (n, labels), v in samples(data).items() if n == name]


TARGET = {"job": "shop/checkout", "instance": "host:1"}


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (counter("http.requests", number(1)), "http_requests_total"),
        (
            counter("traces_service_graph_request_total", number(1)),
            "traces_service_graph_request_total",
        ),
        (
            counter("process.cpu.time", number(1), unit="s"),
            "process_cpu_time_seconds_total",
        ),
        (counter("tcp.io", number(1), unit="By"), "tcp_io_bytes_total"),
        (counter("retransmits", number(1), unit="{segment}"), "retransmits_total"),
        (
            gauge("process.memory.usage", number(1), unit="By"),
            "process_memory_usage_bytes",
        ),
        (gauge("process.cpu.utilization", number(1)), "process_cpu_utilization_ratio"),
        (gauge("deetune.bytes", number(1), unit="By"), "deetune_bytes"),
        (gauge("rate", number(1), unit="By/s"), "rate_bytes_per_second"),
        (gauge("9lives..of-cats", number(1), unit="{cat}"), "_9lives_of_cats"),
        (
            counter("thread.count", number(1), unit="{thread}", monotonic=False),
            "thread_count",
        ),
        (histogram("h.duration", buckets(1, 2, 3)), "h_duration_seconds_count"),
        (histogram("h.size", buckets(1, 2, 3), unit="By"), "h_size_bytes_sum"),
    ],
)
def test_names(metric: Metric, name: str) -> None:
    assert named(reading(metric), name)


def test_a_histogram_is_cumulative_over_its_buckets() -> None:
    data = reading(
        histogram("h", buckets(3, 2, 1, total=4.5, dotted={"http.route": "/a"}))
    )
    labels = {**TARGET, "http_route": "/a"}
    assert named(data, "h_seconds_bucket") == [
        ({**labels, "le": "0.1"}, 3),
        ({**labels, "le": "1.0"}, 5),
        ({**labels, "le": "+Inf"}, 6),
    ]
    assert named(data, "h_seconds_count") == [(labels, 6)]
    assert named(data, "h_seconds_sum") == [(labels, 4.5)]


def test_large_counts_stay_exact() -> None:
    exact = (1 << 53) - 1
    data = reading(counter("c", number(exact)), histogram("h", buckets(exact, 0, 0)))
    assert named(data, "c_total")[0][1] == exact
    assert named(data, "h_seconds_count")[0][1] == exact


def test_job_and_instance_come_from_the_resource() -> None:
    data = joined(
        reading(counter("c", number(1))),
        reading(counter("c", number(2)), resource=Resource({"service.name": "plain"})),
        reading(counter("c", number(3)), resource=Resource({"host.name": "x"})),
    )
    assert named(data, "c_total") == [(TARGET, 1), ({"job": "plain"}, 2), ({}, 3)]
    assert named(data, "target_info") == [
        ({**TARGET, "host_name": "host"}, 1),
        ({"job": "plain"}, 1),
    ]


def test_series_that_become_equal_are_added() -> None:
    twin = reading(
        counter("c", number(2, k="v")),
        histogram("h", buckets(1, 0, 1, total=2.0)),
        gauge("g", number(5)),
    )
    other = reading(
        counter("c", number(3, k="v")),
        histogram("h", buckets(0, 1, 1, total=3.0)),
        gauge("g", number(7)),
    )
    data = joined(twin, other)
    assert named(data, "c_total") == [({**TARGET, "k": "v"}, 5)]
    assert [v for _, v in named(data, "h_seconds_bucket")] == [1, 2, 4]
    assert named(data, "h_seconds_sum") == [(TARGET, 5.0)]
    assert named(data, "g_ratio") == [(TARGET, 7)]
    assert len(named(data, "target_info")) == 1


def test_labels() -> None:
    point = number(
        1,
        dotted={
            "a.b": "1",
            "a_b": "2",
            "9x": "3",
            "job": "4",
            "le": "5",
            "q": 'x"\\\n',
        },
    )
    ((labels, _),) = named(reading(counter("c", point)), "c_total")
    assert labels == {
        **TARGET,
        "a_b": "1;2",
        "key_9x": "3",
        "exported_job": "4",
        "exported_le": "5",
        "q": 'x"\\\n',
    }


def test_booleans_are_written_as_otlp_writes_them() -> None:
    point = buckets(1, 0, 0, dotted={"otel.metric.overflow": True})
    (labels, _), *_ = named(reading(histogram("h", point)), "h_seconds_count")
    assert labels["otel_metric_overflow"] == "true"


def test_metrics_that_become_equal_but_differ_in_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = reading(counter("a.b", number(1)), gauge("a_b", number(2), unit="x"))
    assert named(data, "a_b_total") == [(TARGET, 1)]
    clash = reading(
        gauge("a.b", number(2), unit=""), counter("a_b", number(1), unit="")
    )
    exposition = Exposition(lambda: clash)
    for _ in range(3):
        page = b"".join(exposition.written(OPENMETRICS)[1]).decode()
        names = {f.name for f in parse_openmetrics(page)}
        assert names == {"target", "a_b"}
    assert [record.getMessage() for record in caplog.records] == [
        "a_b is left out of /metrics: a_b is there already, of another kind"
    ]


def test_a_long_family_is_one_family() -> None:
    count = LINES_A_PIECE + 1
    data = reading(
        histogram("h", *(buckets(1, 0, 0, number=n) for n in range(count))),
        gauge("g", *(number(n, number=n) for n in range(count)), unit=""),
    )
    assert len(named(data, "h_seconds_count")) == len(named(data, "g")) == count
    assert scrape(data).count("# TYPE h_seconds histogram\n") == 1
    assert scrape(data, OPENMETRICS).count("# EOF\n") == 1


def test_exemplars_stand_at_their_bucket() -> None:
    point = buckets(
        2, 1, 0,
        exemplars=[exemplar(0.05, at=1), exemplar(0.1, at=2), exemplar(0.7)],
    )  # fmt: skip
    text = scrape(
        reading(
            histogram("h", point),
            counter("c", number(1, exemplars=[exemplar(9.0)])),
        ),
        OPENMETRICS,
    )
    found = {
        (s.name, s.labels.get("le")): s.exemplar
        for family in parse_openmetrics(text)
        for s in family.samples
        if s.exemplar
    }
    assert {key: one.value for key, one in found.items()} == {
        ("h_seconds_bucket", "0.1"): 0.1,  # the newer of two
        ("h_seconds_bucket", "1.0"): 0.7,
        ("c_total", None): 9.0,
    }
    one = found["h_seconds_bucket", "1.0"]
    assert one.labels == {
        "trace_id": "00000000000000000000000000000abc",
        "span_id": "0000000000000def",
    }
    assert one.timestamp is not None
    assert float(one.timestamp) == pytest.approx(START_NS / 1e9)


def test_units_and_help_are_there() -> None:
    families = {
        f.name: f
        for f in parse_openmetrics(
            scrape(reading(histogram("h", buckets(1, 0, 0))), OPENMETRICS)
        )
    }
    family = families["h_seconds"]
    assert (family.unit, family.type, family.documentation) == (
        "seconds",
        "histogram",
        "About h.",
    )


def test_delta_points_are_refused() -> None:
    with pytest.raises(ValueError, match="c: /metrics needs cumulative counts"):
        scrape(reading(counter("c", number(1), temporality=DELTA)))


def test_nothing_to_show_is_an_empty_page() -> None:
    assert scrape(joined(), OPENMETRICS) == "# EOF\n"
