# SPDX-License-Identifier: Apache-2.0
"""`deetune check`: does what `run` does to begin, gives it all back, and tells what came of it.

What `run` would refuse ends it in the same way, by the same code: the settings first, then what
they name (OTLP, the web endpoint, the flight recorder), then the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deetune_otel import __version__
from deetune_otel.agent.agent import kernel_settings
from deetune_otel.agent.exporters import Exporters
from deetune_otel.cli import settings as options
from deetune_otel.cli.errands import check_flight
from deetune_otel.cli.errors import CommandError, ExitCode
from deetune_otel.config import Config, Loaded
from deetune_otel.config.render import effective, origins
from deetune_otel.export.otlp import Signal, left_out
from deetune_otel.kernel import (
    Facts,
    Kernel,
    KernelSettings,
    KernelUnavailable,
    Missing,
    NothingTaken,
    Outcome,
    Tried,
    features,
)
from deetune_otel.web.server import WebServerError, try_to_listen

__all__ = ["Check"]

WIDTH: Final = 88


class Check:
    """Try what `run` does: which programs this kernel takes, what is lost, which settings apply.

    Loads the programs, attaches them, and takes them away again at once; some seconds, nearly all
    of them the kernel's verification. Sends nothing, and leaves nothing behind. What `run` would
    refuse is refused here, with the same exit code. A setting that is not the default is followed
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
        found = Found(
            ways=ways_out(loaded.config, os.environ), kernel=try_kernel(loaded.config)
        )
        if args.json:
            print(json.dumps(report(found, loaded), indent=2))
        else:
            print("\n".join(lines(found, loaded)))
        return ExitCode.OK if found.kernel.is_usable else ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysOut:
    """Where telemetry would go, by signal; and what is in the way of the web endpoint."""

    endpoints: dict[str, list[str]]
    left_out: dict[Signal, str]  # of OTLP, and why
    web_is_taken: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFound:
    """What came of trying."""

    facts: Facts
    missing: tuple[Missing, ...]
    tried: Tried | None  # None: nothing can be observed
    outcomes: tuple[Outcome, ...] = ()  # of every program that was tried
    seconds: float = 0.0

    @property
    def is_usable(self) -> bool:
        return self.tried is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that is not in the configuration."""

    ways: WaysOut
    kernel: KernelFound


def ways_out(config: Config, environ: Mapping[str, str]) -> WaysOut:
    """Raises what `run` raises: ConfigError, CommandError."""
    exporters = Exporters(config, environ)
    exporters.close(0.0)
    endpoints: dict[str, list[str]] = {}
    for one in exporters.report():
        endpoints.setdefault(one.signal, []).append(one.endpoint)
    check_flight(config.recording)
    is_taken = False
    if config.web.enabled:
        try:
            try_to_listen(config.web)
        except WebServerError as error:
            if not error.is_taken:
                raise CommandError(str(error)) from error
            is_taken = True
    return WaysOut(
        endpoints=endpoints,
        left_out=left_out(config.otlp, environ),
        web_is_taken=is_taken,
    )


def try_kernel(config: Config) -> KernelFound:
    """Loads, attaches, and lets go."""
    known = features.probe()
    settings = kernel_settings(config, spans_per_second=config.spans.per_second)
    begin_s = time.monotonic()
    try:
        tried = _opened_and_closed(settings)
    except KernelUnavailable as error:
        return not_observable(known, error)
    return observable(known, tried, seconds=time.monotonic() - begin_s)


def _opened_and_closed(settings: KernelSettings) -> Tried:
    kernel = Kernel.open(settings)
    kernel.close()
    return kernel.tried


def observable(
    known: features.Features, tried: Tried, *, seconds: float
) -> KernelFound:
    """What explains a refusal is not missing where nothing is refused."""
    refused = (
        Missing(
            what=f"{one.refusal}.",
            costs=one.part.lost,
            remedy=one.refusal.hint if one.refusal else "",
            fatal=False,
        )
        for one in tried.refused
    )
    rest = (one for one in known.missing if not one.fatal)
    return KernelFound(
        facts=known.facts,
        missing=(*refused, *rest),
        tried=tried,
        outcomes=tried.outcomes,
        seconds=seconds,
    )


def not_observable(known: features.Features, error: KernelUnavailable) -> KernelFound:
    """What is known to be missing explains it, or the error speaks for itself."""
    missing = known.missing
    if not any(one.fatal for one in missing):
        first, *more = (line.strip() for line in str(error.args[0]).splitlines())
        refusal = Missing(
            what=" ".join((first, "; ".join(more))).strip(),
            costs="Nothing can be observed.",
            remedy=error.hint,
            fatal=True,
        )
        missing = (refusal, *missing)
    return KernelFound(
        facts=known.facts,
        missing=missing,
        tried=None,
        outcomes=error.outcomes if isinstance(error, NothingTaken) else (),
    )


def report(found: Found, loaded: Loaded) -> dict[str, Any]:
    """What --json prints."""
    kernel = found.kernel
    rung = kernel.tried.rung if kernel.tried else None
    return {
        "version": __version__,
        "usable": kernel.is_usable,
        "kernel": {
            "release": platform.release(),
            "machine": platform.machine(),
            "rung": rung and int(rung),
            "hooks": rung and rung.description,
            "programs": [_program(one) for one in kernel.outcomes],
            "seconds": round(kernel.seconds, 3),
            "btf": kernel.facts.btf,
            "capabilities": sorted(kernel.facts.capabilities),
            "libbpf": kernel.facts.libbpf_version,
            "lockdown": kernel.facts.lockdown,
            "missing": [
                {
                    "what": one.what,
                    "costs": one.costs,
                    "remedy": one.remedy,
                    "fatal": one.fatal,
                }
                for one in kernel.missing
            ],
        },
        "otlp": {
            "enabled": len(found.ways.left_out) < len(Signal),
            "left_out": {str(key): why for key, why in found.ways.left_out.items()},
        },
        "endpoints": found.ways.endpoints,
        "web": {
            "url": _url(loaded.config) if loaded.config.web.enabled else None,
            "is_taken": found.ways.web_is_taken,
        },
        "config": origins(loaded),
    }


def _program(one: Outcome) -> dict[str, Any]:
    refusal = one.refusal
    return {
        "name": one.program,
        "rung": int(one.rung),
        "essential": one.part.essential,
        "taken": one.taken,
        "refused": refusal
        and {
            "why": str(refusal),
            "errno": refusal.number or None,
            "log": list(refusal.log),
        },
        "lost": None if one.taken else one.part.lost,
    }


def lines(found: Found, loaded: Loaded) -> Iterator[str]:
    """What a person reads."""
    kernel = found.kernel
    facts = kernel.facts
    yield f"deetune {__version__}, Linux {platform.release()} {platform.machine()}"
    yield ""
    yield "Kernel"
    yield from _tried(kernel)
    yield f"  BTF           {'yes' if facts.btf else 'no'}"
    yield f"  libbpf        {facts.libbpf_version or 'not installed'}"
    yield f"  capabilities  {' '.join(sorted(facts.capabilities)) or 'none of ours'}"
    yield f"  missing       {len(kernel.missing) or 'nothing'}"
    for one in kernel.missing:
        yield ""
        yield from _wrapped("- ", one.what)
        yield from _wrapped("  costs:  ", one.costs)
        yield from _wrapped("  remedy: ", one.remedy)
    yield ""
    yield "Export"
    yield from _ways(found.ways, loaded.config)
    yield ""
    yield "Configuration"
    yield textwrap.indent(effective(loaded), "  ")
    yield (
        "This machine can be observed: deetune run"
        if kernel.is_usable
        else "This machine cannot be observed as it is: see what is missing, above."
    )


def _tried(kernel: KernelFound) -> Iterator[str]:
    tried = kernel.tried
    if tried is None:
        said = "nothing is taken" if kernel.outcomes else "nothing could be tried"
        yield f"  hooks         none: {said}, see below"
        return
    yield f"  hooks         rung {tried.rung:d}: {tried.rung.description}"
    for one in tried.passed_over:
        yield from _wrapped("", f"not rung {one.rung:d}: {one.refusal}", indent=16)
    refused = f", {len(tried.refused)} refused" if tried.refused else ""
    yield (
        f"  programs      {len(tried.programs)} loaded, attached and let go again{refused}"
        f" ({kernel.seconds:.1f} s)"
    )


def _ways(ways: WaysOut, config: Config) -> Iterator[str]:
    for signal, name in ((Signal.TRACES, "spans"), (Signal.METRICS, "metrics")):
        sent = ways.endpoints.get(name, [])
        if signal in ways.left_out:
            sent = [*sent, f"not over OTLP: {ways.left_out[signal]}"]
        elif not sent:
            sent = ["none: spans.enabled is false"]
        yield from (f"  {name if i == 0 else '':12}  {to}" for i, to in enumerate(sent))
    if not config.web.enabled:
        yield "  web           off"
        return
    yield f"  web           {_url(config)} (metrics, healthz, status)"
    if ways.web_is_taken:
        yield "                taken now: another agent may run, or set web.port"


def _url(config: Config) -> str:
    web = config.web
    host = f"[{web.host}]" if ":" in web.host else web.host
    return f"http://{host}:{web.port}/"


def _wrapped(label: str, text: str, *, indent: int = 4) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        width=WIDTH,
        initial_indent=f"{' ' * indent}{label}",
        subsequent_indent=" " * (indent + len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )
