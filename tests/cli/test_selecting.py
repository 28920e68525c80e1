# SPDX-License-Identifier: Apache-2.0
"""The words of the command line that choose exchanges."""

from __future__ import annotations

import argparse
from ipaddress import ip_network

import pytest

from deetune_otel.cli.selecting import (
    add_selection,
    byte_count,
    duration_ns,
    selection_of,
)
from deetune_otel.model import Protocol
from deetune_otel.recording.selection import Direction, Selection


def parsed(*words: str) -> Selection:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_selection(parser)
    return selection_of(parser.parse_args(words))


def test_nothing_chooses_everything() -> None:
    assert parsed() == Selection()


def test_every_option_is_a_condition() -> None:
    words = (
        "--service a b --service c --path /x/* --method get --operation SET --status 5XX "
        "--header x-a=b* --protocol http --peer 10.0.0.0/8 ::1 --port 80 --direction client "
        f"--slower-than 250ms --trace {'A' * 32} --exchange {'b' * 16}"
    )
    assert parsed(*words.split()) == Selection(
        services=("a", "b", "c"),
        paths=("/x/*",),
        methods=("GET",),
        operations=("SET",),
        statuses=("5xx",),
        headers=(("x-a", "b*"),),
        protocols=frozenset({Protocol.HTTP}),
        peers=(ip_network("10.0.0.0/8"), ip_network("::1")),
        ports=(80,),
        directions=frozenset({Direction.CLIENT}),
        min_latency_ns=250_000_000,
        traces=frozenset({"a" * 32}),
        exchanges=frozenset({"b" * 16}),
    )


@pytest.mark.parametrize(
    "words",
    [
        "--status 600",
        "--header x",
        "--protocol smtp",
        "--peer 10.0.0.1/8",
        "--peer x",
        "--port 0",
        "--port x",
        "--trace 12",
        "--exchange zz",
        "--direction up",
        "--slower-than fast",
    ],
)
def test_bad_values_are_said(words: str) -> None:
    with pytest.raises(argparse.ArgumentError):
        parsed(*words.split())


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", 250_000_000),
        ("2s", 2_000_000_000),
        ("1.5", 1_500_000_000),
        ("3us", 3000),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64k", 65536),
        ("16M", 16 << 20),
        ("1.5 GiB", 3 << 29),
        ("100", 100),
        ("5MB", 5 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert byte_count(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "5x", "k"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        byte_count(text)
