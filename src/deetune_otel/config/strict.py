# SPDX-License-Identifier: Apache-2.0
"""Plain values, as YAML gives them, to a `Config`: nothing unknown, nothing converted by guess.

cattrs does the walking, because it reports every error of a tree instead of the first. Its own
conversions (`bool("no")` is True) are replaced by hooks that say what was expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from deetune_otel.config.schema import Config, SettingError, complaint, settings

__all__ = ["StrictError", "meant", "shown", "structure"]


class StrictError(Exception):
    """The values are no configuration; `problems` are pairs of path and message."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(": ".join(one) for one in self.problems))


def structure(tree: dict[str, Any]) -> Config:
    """Raises StrictError with everything that is wrong."""
    try:
        return CONVERTER.structure(tree, Config)
    except BaseValidationError as error:
        raise StrictError(_walk(error, "")) from None


def shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "keys and values"
        case list():
            return "a list"
    return repr(value)


def meant(near: Iterable[str]) -> str:
    word = next(iter(near), None)
    return f"; did you mean {word!r}?" if word is not None else ""


def _text(value: object, _: object) -> str:
    if isinstance(value, str):
        if "\0" in value:  # no path, no host, no pattern has one: C's text ends there
            raise ValueError(f"has a zero byte in it: {value!r}")
        return value
    if isinstance(value, bool):
        raise ValueError(
            f"expected text, got {shown(value)}: "
            "YAML takes yes, no, on and off for booleans, so write it in quotes"
        )
    if isinstance(value, int | float):
        raise ValueError(f"expected text, got {value}: write it in quotes")
    raise ValueError(f"expected text, got {shown(value)}")


def _flag(value: object, _: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, got {shown(value)}")


def _whole(value: object, _: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected a whole number, got {shown(value)}")


def _number(value: object, _: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"expected a number, got {shown(value)}")


def _choice(value: object, of: Any) -> Any:
    words = get_args(of)
    if value in words and not isinstance(value, bool):
        return value
    near = difflib.get_close_matches(str(value), words, n=1)
    raise ValueError(
        f"expected one of {', '.join(words)}, got {shown(value)}{meant(near)}"
    )


def _headers(value: object, _: object) -> dict[str, str]:
    """Values may be secrets: no message repeats one."""
    if not isinstance(value, dict):
        raise ValueError("expected names and values, such as {authorization: Bearer …}")
    for name, content in value.items():
        if not isinstance(name, str) or not isinstance(content, str):
            raise ValueError(f"the value of {name!r} must be text: write it in quotes")
    return value


def _list_hook(of: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    inner = homogenous_tuple_structure_factory(of, converter)

    def hook(value: object, cls: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {shown(value)}")
        return inner(value, cls)

    return hook


def _section_hook(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    hints = get_type_hints(cls)

    def checked(one: Any) -> Callable[[Any, Any], Any]:
        def hook(value: object, _: Any) -> Any:
            made = converter.structure(value, hints[one.name])
            wrong = complaint(one, made) if "about" in one.metadata else ""
            if wrong:
                raise ValueError(wrong)
            return made

        return hook

    overrides: dict[str, Any] = {
        one.name: override(struct_hook=checked(one)) for one in fields(cls)
    }
    inner = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, **overrides
    )

    def hook(value: object, of: Any) -> Any:
        if value is None:  # a section whose keys are all commented out
            value = {}
        if not isinstance(value, dict):
            raise ValueError(f"expected keys and values, got {shown(value)}")
        return inner(value, of)

    return hook


def _is(kind: object) -> Callable[[Any], bool]:
    def predicate(of: Any) -> bool:
        return get_origin(of) is kind

    return predicate


def _converter() -> Converter:
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _flag)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(_is(Literal), _choice)
    converter.register_structure_hook_func(_is(dict), _headers)
    converter.register_structure_hook_factory(
        _is(tuple), lambda of: _list_hook(of, converter)
    )
    converter.register_structure_hook_factory(
        is_dataclass, lambda of: _section_hook(of, converter)
    )
    return converter


CONVERTER: Final = _converter()


# Errors, from cattrs' tree to a person's list


def _walk(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    match error:
        case BaseValidationError():
            for inner in error.exceptions:
                yield from _walk(inner, path + _step(inner, path))
        case ForbiddenExtraKeysError():
            for key in sorted(map(str, error.extra_fields)):
                inner_path = f"{path}.{key}" if path else key
                yield inner_path, _unknown(key, error.cl, path)
        case SettingError():
            parts = (path, error.key) if error.key else (path,)
            yield ".".join(parts), error.message
        case KeyError():
            yield path, "is missing"
        case _:
            yield path, str(error)


def _step(error: BaseException, path: str) -> str:
    """What cattrs noted: the attribute or the index in which the error happened."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}" if path else note.name
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""


def _unknown(key: str, cls: Any, path: str) -> str:
    kind = "setting" if path else "section"
    near = difflib.get_close_matches(key, [one.name for one in fields(cls)], n=1)
    if not near:
        owners = [one.path for one in settings() if one.key == key]
        if owners:
            return f"unknown {kind} here; it is {' or '.join(owners)}"
    return f"unknown {kind}{meant(near)}"
