# SPDX-License-Identifier: Apache-2.0
"""Ranges, and what the sections say of themselves."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from deetune_otel.config.routes import WELL_KNOWN
from deetune_otel.config.schema import (
    AgentSettings,
    Config,
    KernelSettings,
    OtlpSettings,
    RecordingSettings,
    RouteSettings,
    ServiceMatch,
    ServiceRule,
    SettingError,
    TopologySettings,
    WebSettings,
    settings,
)


def test_each_section_and_setting_explains_itself() -> None:
    for section in fields(Config):
        assert section.default_factory.__doc__, section.name
    for setting in settings():
        assert setting.about.sentence.endswith((".", "`.")), setting.path
        # a number without a range would take a nonsense value in silence
        if type(setting.default) in {int, float}:
            assert setting.about.range, setting.path


def test_the_variable_follows_from_the_path() -> None:
    variables = {one.path: one.variable for one in settings()}
    assert variables["agent.interval_s"] == "DEETUNE_AGENT_INTERVAL_S"
    assert len(set(variables.values())) == len(variables)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().agent.interval_s = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: AgentSettings(interval_s=0.01),
            "interval_s: must be from 0.1 to 3600, got 0.01",
        ),
        (
            lambda: AgentSettings(interval_s=float("nan")),
            "interval_s: must be from 0.1 to 3600, got nan",
        ),
        (
            lambda: WebSettings(port=65536),
            "port: must be from 0 to 65535, got 65536",
        ),
        (
            lambda: KernelSettings(ring_bytes=100_000),
            "ring_bytes: must be a power of two, got 100000; near it: 65536 or 131072",
        ),
        (
            lambda: OtlpSettings(client_key="k.pem"),
            "client_certificate: is missing beside client_key",
        ),
        (
            lambda: OtlpSettings(client_certificate="c.pem"),
            "client_key: is missing beside client_certificate",
        ),
        (
            lambda: RouteSettings(patterns=("/a", "b")),
            "patterns[1]: a route begins with '/', got 'b'",
        ),
        (
            lambda: RouteSettings(patterns=("/a", "/:user")),
            "patterns[1]: '/:user': a parameter is written '{id}', got ':user'",
        ),
        (
            lambda: RouteSettings(patterns=tuple(f"/{i}" for i in range(1024))),
            (
                "patterns: 1024 segments look like identifiers and are to be kept apart, of "
                f"{1024 - len(WELL_KNOWN)} that can be; write '{{id}}' for those that are values"
            ),
        ),
        (
            lambda: TopologySettings(peers=("http://a", "http://b:x")),
            (
                "peers[1]: 'http://b:x' is no URL of an agent: "
                "Port could not be cast to integer value as 'x'"
            ),
        ),
        (
            lambda: WebSettings(host="127.0.0.1:80"),
            (
                "host: '127.0.0.1:80' is no address of a host and no name: write 127.0.0.1, "
                "::1, 0.0.0.0; the port is web.port"
            ),
        ),
        (
            lambda: RecordingSettings(socket="/" + 107 * "s"),
            "socket: a socket's path has at most 107 bytes, this one 108",
        ),
        (
            ServiceMatch,
            "names nothing to match: give exe, command, cgroup or port",
        ),
        (
            lambda: ServiceRule(match=ServiceMatch(port=80), name=""),
            "name: must not be empty",
        ),
    ],
)
def test_an_unusable_value_is_refused(make: type, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [0.1, 3600])
def test_the_ends_of_a_range_belong_to_it(value: float) -> None:
    assert AgentSettings(interval_s=value).interval_s == value


@pytest.mark.parametrize(
    ("otlp", "environ", "on"),
    [
        (OtlpSettings(), {}, False),
        (OtlpSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (OtlpSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        (OtlpSettings(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
        (OtlpSettings(), {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, True),
        (OtlpSettings(endpoint="http://c:4318"), {}, True),
        (OtlpSettings(enabled=True), {}, True),
        (OtlpSettings(enabled=False, endpoint="http://c:4318"), {}, False),
    ],
)
def test_otlp_is_on_when_an_endpoint_is_known(
    otlp: OtlpSettings, environ: dict[str, str], *, on: bool
) -> None:
    assert otlp.is_on(environ) is on
