# SPDX-License-Identifier: Apache-2.0
"""`deetune check`: gathers a report as plain values, then prints it as text or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from deetune_otel import __version__
from deetune_otel.cli import settings as options
from deetune_otel.cli.errors import ExitCode
from deetune_otel.config import Loaded
from deetune_otel.config.render import effective, origins
from deetune_otel.kernel import features

__all__ = ["Check"]

WIDTH: Final = 88


class Check:
    """Say what this kernel offers, what is missing and costs, and which settings apply.

    Loads nothing into the kernel and sends nothing. A setting that is not the default is followed
    by where it came from: file and line, variable, or flag. Secrets are not shown.
    """

    EXAMPLES = """\
  deetune check                              before the first `deetune run`
  deetune check --config deetune.yaml        is this file right, and what does it come to?
  deetune check --print-config >deetune.yaml a file to start from
  deetune check --json | jq .kernel.missing  for scripts"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        options.add_arguments(parser)
        output = parser.add_mutually_exclusive_group()
        output.add_argument(
            "--json",
            action="store_true",
            help="print one JSON document instead of text",
        )
        output.add_argument(
            "--print-config",
            action="store_true",
            help="print the effective configuration as YAML, and nothing else; exit code 0",
        )

    def run(self, args: argparse.Namespace) -> int:
        loaded = options.load_settings(args, os.environ)
        if args.print_config:
            print(effective(loaded), end="")
            return ExitCode.OK
        found = features.probe()
        if args.json:
            print(json.dumps(report(found, loaded, os.environ), indent=2))
        else:
            print("\n".join(lines(found, loaded, os.environ)))
        return ExitCode.OK if found.usable else ExitCode.UNAVAILABLE


def report(
    found: features.Features, loaded: Loaded, environ: Mapping[str, str]
) -> dict[str, Any]:
    """What --json prints."""
    return {
        "version": __version__,
        "usable": found.usable,
        "kernel": {
            "release": platform.release(),
            "machine": platform.machine(),
            "rung": int(found.rung),
            "hooks": found.rung.description,
            "btf": found.facts.btf,
            "tracepoints": sorted(found.facts.tracepoints),
            "capabilities": sorted(found.facts.capabilities),
            "libbpf": found.facts.libbpf_version,
            "lockdown": found.facts.lockdown,
            "missing": [
                {
                    "what": one.what,
                    "costs": one.costs,
                    "remedy": one.remedy,
                    "fatal": one.fatal,
                }
                for one in found.missing
            ],
        },
        "otlp": {"enabled": loaded.config.otlp.is_on(environ)},
        "config": origins(loaded),
    }


def lines(
    found: features.Features, loaded: Loaded, environ: Mapping[str, str]
) -> Iterator[str]:
    """What a person reads."""
    facts = found.facts
    yield f"deetune {__version__}, Linux {platform.release()} {platform.machine()}"
    yield ""
    yield "Kernel"
    yield f"  hooks         rung {int(found.rung)}: {found.rung.description}"
    yield f"  BTF           {'yes' if facts.btf else 'no'}"
    yield f"  libbpf        {facts.libbpf_version or 'not installed'}"
    yield f"  capabilities  {' '.join(sorted(facts.capabilities)) or 'none of ours'}"
    yield f"  missing       {len(found.missing) or 'nothing'}"
    for one in found.missing:
        yield ""
        yield from _wrapped("- ", one.what)
        yield from _wrapped("  costs:  ", one.costs)
        yield from _wrapped("  remedy: ", one.remedy)
    yield ""
    yield "Export"
    yield f"  OTLP          {_otlp(loaded, environ)}"
    yield f"  console       {_switch(on=loaded.config.console.enabled)}"
    yield f"  web           {_web(loaded)}"
    yield ""
    yield "Configuration"
    yield textwrap.indent(effective(loaded), "  ")
    yield (
        "This machine can be observed: deetune run"
        if found.usable
        else "This machine cannot be observed as it is: see what is missing, above."
    )


def _wrapped(label: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        width=WIDTH,
        initial_indent=f"    {label}",
        subsequent_indent=" " * (4 + len(label)),
    )


def _switch(*, on: bool) -> str:
    return "on" if on else "off"


def _otlp(loaded: Loaded, environ: Mapping[str, str]) -> str:
    otlp = loaded.config.otlp
    if not otlp.is_on(environ):
        if otlp.enabled is None:
            return (
                "off: no endpoint is known (otlp.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT)"
            )
        return f"off: otlp.enabled, {loaded.origins['otlp.enabled']}"
    target = otlp.endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"on: {target or 'as the standard variables say'}"


def _web(loaded: Loaded) -> str:
    web = loaded.config.web
    if not web.enabled:
        return "off"
    host = f"[{web.host}]" if ":" in web.host else web.host
    return f"on: http://{host}:{web.port}/ (metrics, healthz, status)"
