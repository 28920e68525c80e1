# SPDX-License-Identifier: Apache-2.0
"""Puts a configuration together: defaults < file < environment < flags.

An unknown key, a wrong type or a value out of range is an error, and all of them are reported at
once, each with its path, where it was written, and the likely meant word. The layers are merged
as plain values first, and checked once (`strict`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import UnionType
from typing import (
    Any,
    Final,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from deetune_otel.config import document, strict
from deetune_otel.config.schema import Config, Setting, settings
from deetune_otel.config.strict import meant, shown

__all__ = ["ConfigError", "Layer", "Loaded", "Origin", "Problem", "load"]

SETTINGS: Final = {one.path: one for one in settings()}
VARIABLES: Final = {one.variable: one for one in SETTINGS.values()}
SECTIONS: Final = tuple(one.name for one in fields(Config))


class Layer(StrEnum):
    """Where a value may come from; a later layer wins."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Origin(NamedTuple):
    """Where a value came from; `where` is `deetune.yaml:12`, a variable's or a flag's name."""

    layer: Layer
    where: str = ""

    def __str__(self) -> str:
        return self.where or self.layer


class Problem(NamedTuple):
    """One thing that is wrong, and where a person finds it."""

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration and the origin of each value, by path (`otlp.endpoint`)."""

    config: Config
    origins: dict[str, Origin] = field(default_factory=dict)

    def value(self, path: str) -> object:
        section, _, key = path.partition(".")
        return getattr(getattr(self.config, section), key)


def load(
    text: str = "",
    *,
    name: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Raises ConfigError with everything that is wrong.

    `text` is the YAML of the file called `name`; `flags` maps paths to texts, as
    `--set otlp.timeout_s=5` gives them.
    """
    tree, origins, problems = _from_file(text, name)
    lines = {path: str(origin) for path, origin in origins.items()}
    for layer, given in (
        (Layer.ENVIRONMENT, _from_environment(environ or {}, problems)),
        (Layer.FLAG, _from_flags(flags or {}, problems)),
    ):
        for setting, where, value in given:
            section = tree.get(setting.section)
            if not isinstance(section, dict):
                # what the file has there is no section: that is reported, unless it is empty
                if section is not None:
                    continue
                section = tree[setting.section] = {}
            section[setting.key] = value
            origins[setting.path] = Origin(layer, where)
            lines[setting.path] = where
    try:
        config = strict.structure(tree)
    except strict.StrictError as error:
        problems.extend(
            Problem(_where(path, lines, name), path, message)
            for path, message in error.problems
        )
    if problems:
        raise ConfigError(problems)
    return Loaded(config=config, origins=_complete(config, origins, environ or {}))


def _complete(
    config: Config, origins: Mapping[str, Origin], environ: Mapping[str, str]
) -> dict[str, Origin]:
    """An origin for every setting; a null one may be decided by a standard variable."""
    complete: dict[str, Origin] = {}
    for setting in SETTINGS.values():
        value = getattr(getattr(config, setting.section), setting.key)
        standard = setting.about.standard
        if value is None and environ.get(standard):
            complete[setting.path] = Origin(Layer.ENVIRONMENT, standard)
        else:
            complete[setting.path] = origins.get(setting.path, Origin(Layer.DEFAULT))
    return complete


# The layers


def _from_file(
    text: str, name: str
) -> tuple[dict[str, Any], dict[str, Origin], list[Problem]]:
    try:
        read = document.read(text)
    except document.DocumentError as error:
        where = f"{name}:{error.line}" if error.line else name
        return {}, {}, [Problem(where, "", error.message)]
    if read.value is None:
        return {}, {}, []
    if not isinstance(read.value, dict):
        message = f"expected sections ({', '.join(SECTIONS)}), got {shown(read.value)}"
        return {}, {}, [Problem(f"{name}:1", "", message)]
    tree = {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in read.value.items()
    }
    origins = {
        path: Origin(Layer.FILE, f"{name}:{line}") for path, line in read.lines.items()
    }
    return tree, origins, []


def _from_environment(
    environ: Mapping[str, str], problems: list[Problem]
) -> Iterator[tuple[Setting, str, object]]:
    """An empty variable counts as unset, as OpenTelemetry's specification has it.

    Variables that begin with DEETUNE_ and are nobody's are refused when they look like a setting.
    """
    for variable in sorted(environ):
        if not variable.startswith("DEETUNE_") or not environ[variable]:
            continue
        setting = VARIABLES.get(variable)
        if setting is None:
            near = difflib.get_close_matches(variable, VARIABLES, n=1, cutoff=0.85)
            section = variable.split("_")[1].lower()
            if near or section in SECTIONS:
                problems.append(Problem(variable, "", f"unknown variable{meant(near)}"))
            continue
        yield from _value(setting, variable, environ[variable], problems)


def _from_flags(
    flags: Mapping[str, str], problems: list[Problem]
) -> Iterator[tuple[Setting, str, object]]:
    for path, text in flags.items():
        setting = SETTINGS.get(path)
        if setting is None:
            near = difflib.get_close_matches(path, SETTINGS, n=1)
            problems.append(Problem("--set", path, f"unknown setting{meant(near)}"))
            continue
        yield from _value(setting, "--set", text, problems)


def _value(
    setting: Setting, where: str, text: str, problems: list[Problem]
) -> Iterator[tuple[Setting, str, object]]:
    """A text is taken as it stands where text is wanted, and read as YAML otherwise."""
    if _takes_text(setting) and text != "null":
        yield setting, where, text
        return
    try:
        yield setting, where, document.read(text).value
    except document.DocumentError as error:
        problems.append(Problem(where, setting.path, error.message))


def _takes_text(setting: Setting) -> bool:
    section = get_type_hints(Config)[setting.section]
    hint = get_type_hints(section)[setting.key]
    parts = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    return any(part is str or get_origin(part) is Literal for part in parts)


def _where(path: str, lines: Mapping[str, str], name: str) -> str:
    """The nearest place that is known: the key's own, or what it stands in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return name
