# SPDX-License-Identifier: Apache-2.0
"""Groups of counts: what was added, what was added since, and both of two together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.model import NO_TRAFFIC, Protocol
from deetune_otel.signals.values import ZERO
from deetune_otel.topology.history import Timeline
from deetune_otel.topology.sums import (
    NETWORK,
    SERVER_NETWORK,
    CallsGroup,
    FailureGroup,
    Group,
    Side,
    Sums,
    calls_numbers,
    network_of,
    tally_of,
    traffic_numbers,
)

S = 10**9
HTTP = CallsGroup(Side.CLIENT, Protocol.HTTP)
REDIS = CallsGroup(Side.ALONE, Protocol.REDIS)
REFUSED = FailureGroup("ECONNREFUSED")
GROUPS = st.sampled_from([HTTP, REDIS, REFUSED])
ADDED = st.lists(st.tuples(GROUPS, st.integers(1, 99)), max_size=6)


def numbers(group: Group, count: int) -> list[int]:
    return [count] if group == REFUSED else [count] * 21


@given(st.lists(ADDED, max_size=20), st.lists(ADDED, max_size=20), st.integers(0, 20))
def test_two_together_are_the_sum_at_any_time(
    first: list[list[tuple[Group, int]]],
    second: list[list[tuple[Group, int]]],
    back: int,
) -> None:
    timeline, one, other = Timeline(0), Sums(), Sums()
    for n in range(20):
        for sums, acts in ((one, first), (other, second)):
            for group, count in acts[n] if n < len(acts) else ():
                sums.add(group, numbers(group, count))
        ends = timeline.end_reading((n + 1) * 10 * S)
        one.keep(ends, timeline)
        other.keep(ends, timeline)
    begin = timeline.since(back * 10 * S)
    expected: dict[Group, int] = {}
    for sums in (one, other):
        for group, values in sums.since(begin).items():
            expected[group] = expected.get(group, 0) + values[0]
    one.absorb(other)
    assert {group: values[0] for group, values in one.since(begin).items()} == expected
    assert bool(one) == any(first + second)


def test_calls_as_a_tally() -> None:
    value = ZERO._replace(
        count=3,
        duration_sum_ns=5 * S,
        request_bytes=7,
        response_bytes=9,
        duration_buckets=(3, *(0,) * 14),
    )
    tally = tally_of(calls_numbers(value, is_error=True))
    assert (tally.count, tally.errors, tally.duration_sum_s) == (3, 3, 5.0)
    assert (tally.request_bytes, tally.response_bytes) == (7, 9)
    assert tally.duration_buckets == value.duration_buckets
    assert tally_of(calls_numbers(value, is_error=False)).errors == 0


def test_traffic_as_a_network() -> None:
    traffic = NO_TRAFFIC._replace(
        opened=2,
        connect_sum_ns=S,
        connect_buckets=(2, *(0,) * 14),
        rtt_sum_ns=2 * S,
        rtt_buckets=(0, 4, *(0,) * 10),
        retransmits=5,
        sent_bytes=6,
        received_bytes=7,
    )
    network = network_of(
        {
            NETWORK: traffic_numbers(traffic, is_server=False),
            SERVER_NETWORK: traffic_numbers(traffic, is_server=True),
            REFUSED: [3],
            HTTP: numbers(HTTP, 1),
        },
        active=1,
    )
    assert (network.active, network.connects, network.connect_sum_s) == (1, 2, 1.0)
    assert network.connect_buckets == traffic.connect_buckets
    assert network.connect_failures == {"ECONNREFUSED": 3}
    assert (network.rtt_sum_s, network.rtt_buckets) == (2.0, traffic.rtt_buckets)
    assert network.retransmits == 10  # both ends send again
    assert (network.sent_bytes, network.received_bytes) == (6, 7)


def test_a_server_that_was_alone() -> None:
    sums = Sums()
    sums.add(REDIS, numbers(REDIS, 2))
    sums.add(NETWORK, traffic_numbers(NO_TRAFFIC, is_server=True))
    sums.become_server()
    assert set(sums.groups()) == {
        CallsGroup(Side.SERVER, Protocol.REDIS),
        SERVER_NETWORK,
    }
