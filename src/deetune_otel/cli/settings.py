# SPDX-License-Identifier: Apache-2.0
"""The options by which a command is configured, and reading the file that they name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deetune_otel.cli.errors import UsageError
from deetune_otel.config import Loaded, load

__all__ = ["DEFAULT_FILE", "add_arguments", "load_settings"]

DEFAULT_FILE: Final = Path("/etc/deetune/deetune.yaml")
VARIABLE: Final = "DEETUNE_CONFIG"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"read this YAML file (default: ${VARIABLE}, else {DEFAULT_FILE} if it exists)",
    )
    group.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        dest="assignments",
        help="set one value, over file and environment; may be given more than once",
    )


def load_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    """Raises UsageError or config.ConfigError."""
    path = _path(args.config, environ)
    return load(
        _text(path) if path else "",
        name=str(path or ""),
        environ=environ,
        flags=dict(_assignment(one) for one in args.assignments),
    )


def _path(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    if given is not None:
        return given
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"cannot read the configuration {path}: {reason}",
            hint="without --config the defaults apply; "
            "`deetune check --print-config` prints them as a file to start from",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"the configuration {path} is not UTF-8 text") from None


def _assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"--set {text}: no value", hint="for example --set agent.interval_s=5"
        )
    return path.strip(), value
