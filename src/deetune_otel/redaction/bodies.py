# SPDX-License-Identifier: Apache-2.0
"""Bodies by their content type. What is not understood raises CannotRedact: it is not kept."""

from __future__ import annotations

import codecs
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from deetune_otel.redaction import columns, encodings, jsontext, named, urls
from deetune_otel.redaction.censor import CannotRedact, OverBudget, as_bytes, as_text
from deetune_otel.redaction.parameters import parameters

if TYPE_CHECKING:
    from deetune_otel.redaction.censor import Censor

__all__ = ["body", "media_type", "replaced"]

MAX_NESTED: Final = 3  # multipart in multipart
_JSON: Final = re.compile(
    r".*(?:/|\+|[.-])(?:nd|x-nd)?json(?:l|-seq|lines)?|.*/jsonl(?:ines)?"
)
_TEXT: Final = re.compile(
    r"text/.*|.*[/+]xml(?:-.*)?|.*/(?:x-)?(?:yaml|toml|graphql|sql|sh|pem-file)|.*\+yaml"
)
_CSS: Final = "text/css"
_COLUMNS: Final = re.compile(r".*(?:csv|tab-separated-values|tsv)")
_UNSURE: Final = frozenset({"", "text/plain", "application/octet-stream"})
_CODE: Final = re.compile(r"(?:text|application)/(?:x-)?(?:java|ecma)script")
_BINARY: Final = bytes(
    (*range(0x09), *range(0x0E, 0x1B), 0x1C, 0x1D, 0x1F, 0x7F)
)  # by `translate` they are found in 1.4 µs of 2 KB rather than 7
_CHARSET: Final = re.compile(r"([^;]*+);[ ]?charset=([A-Za-z0-9_-]++)", re.IGNORECASE)
_DELIMITER_END: Final = re.compile(rb"[ \t]*(?:\r\n|\Z)")
_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BEGIN_BOM: Final = {bom[:1] for bom, _ in _BOMS}
_ASCII_LIKE: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?\d+|latin-?1|windows-?125\d|cp125\d|koi8-[ru]|"
)


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """Type and parameters, their names in lower case."""
    kind, semicolon, _ = content_type.partition(";")
    if not semicolon:
        return kind.strip().lower(), {}
    if found := _CHARSET.fullmatch(content_type):  # the usual: without a parser
        return found[1].strip().lower(), {"charset": found[2]}
    return parameters(content_type)


def replaced(
    data: bytes, content_type: str, content_encoding: str, censor: Censor
) -> bytes:
    """All of a body as one token, in a form that readers of its type can read."""
    token = censor.value(as_text(data), "over_budget")
    kind, its = media_type(content_type)
    if _JSON.fullmatch(kind):
        token = f'"{token}"'
    elif kind.endswith(("/xml", "+xml")):
        token = f"<{token}/>"
    elif kind.startswith("multipart/"):
        boundary = its.get("boundary", "")
        token = f"--{boundary}\r\n\r\n{token}\r\n--{boundary}--\r\n"
    return encodings.encoded(as_bytes(token), content_encoding)


def body(
    data: bytes, content_type: str, content_encoding: str, censor: Censor
) -> bytes:
    """Raises CannotRedact, and may raise anything else for what nobody thought of."""
    if not data:
        return data
    if not content_encoding:
        return _content(data, content_type, censor, 0)
    plain = encodings.decoded(data, content_encoding)
    changed = _content(plain, content_type, censor, 0)
    if changed == plain and not _has_gzip_name(data, content_encoding):
        return data
    return encodings.encoded(changed, content_encoding)


def _has_gzip_name(data: bytes, content_encoding: str) -> bool:
    """A gzip header with a file name or comment: text that nobody looked at."""
    return "gzip" in content_encoding.lower() and data[3:4] != b"\0"


def _content(data: bytes, content_type: str, censor: Censor, depth: int) -> bytes:
    kind, its = media_type(content_type)
    if kind.startswith("multipart/"):
        return _multipart(data, its.get("boundary", ""), censor, depth)
    charset = its.get("charset", "").strip().lower()
    if data[:1] in _BEGIN_BOM:
        charset = next((name for bom, name in _BOMS if data.startswith(bom)), charset)
    if charset and not _ASCII_LIKE.fullmatch(charset):
        return _in_charset(data, charset, kind, censor)
    is_text = bool(_JSON.fullmatch(kind) or _TEXT.fullmatch(kind) or "form" in kind)
    if _is_binary(data) or not (is_text or _is_utf8(data)):
        return _binary(data, kind, censor)
    return as_bytes(_text(as_text(data), kind, censor))


def _is_binary(data: bytes) -> bool:
    return len(data.translate(None, _BINARY)) != len(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_charset(data: bytes, charset: str, kind: str, censor: Censor) -> bytes:
    try:
        text = data.decode(charset)
        changed = _text(text, kind, censor)
        return data if changed == text else changed.encode(charset)
    except (LookupError, UnicodeError) as error:
        raise CannotRedact("not in its charset") from error


def _binary(data: bytes, kind: str, censor: Censor) -> bytes:
    if any(fnmatchcase(kind, one.lower()) for one in censor.policy.kept_binary):
        text = data.decode("latin-1")
        if censor.detected(text) == text:
            return data
    raise CannotRedact("binary")


def _text(text: str, kind: str, censor: Censor) -> str:
    censor.spend(len(text))
    censor.echoes.expect(text)
    bare = text.lstrip("\ufeff \t\r\n\x1e")
    if bare[:1] in {"{", "[", '"'} or _JSON.fullmatch(kind):
        mark = "\ufeff" if text.startswith("\ufeff") else ""
        noted = censor.mark()
        try:
            return mark + jsontext.redact(text.removeprefix("\ufeff"), censor)
        except jsontext.NotJson:
            censor.forget_since(noted)
            if _JSON.fullmatch(kind) and bare[:1] in {"{", "["}:
                raise CannotRedact("broken JSON") from None
    if kind == "application/x-www-form-urlencoded":
        return urls.form(text, censor)
    if kind == "text/event-stream":
        return "\n".join(_event_line(line, censor) for line in text.split("\n"))
    if kind == _CSS:
        return censor.detected(text)
    if _CODE.fullmatch(kind):
        return censor.detected(named.in_code(text, censor))
    if (is_sure := _COLUMNS.fullmatch(kind) is not None) or kind in _UNSURE:
        text = columns.redact(text, censor, is_sure=is_sure) or text
    return censor.text(text)


def _event_line(line: str, censor: Censor) -> str:
    name, colon, value = line.partition(":")
    space = " " if value.startswith(" ") else ""
    return (
        name + colon + space + censor.text(value[len(space) :])
        if colon
        else censor.text(line)
    )


def _multipart(data: bytes, boundary: str, censor: Censor, depth: int) -> bytes:
    if not boundary or depth >= MAX_NESTED:
        raise CannotRedact("no boundary, or nested too deep")
    delimiter = b"\r\n--" + boundary.encode("latin-1")
    preamble, *parts = (b"\r\n" + data).split(delimiter)
    if not parts or not parts[-1].startswith(b"--"):
        raise CannotRedact("multipart without an end")
    if (
        preamble.strip()
        or parts[-1][2:].strip()
        or any(p.startswith(b"--") for p in parts[:-1])
    ):
        raise CannotRedact("text around the parts")
    changed = [
        preamble,
        *(_part(part, censor, depth) for part in parts[:-1]),
        parts[-1],
    ]
    return delimiter.join(changed)[2:]


def _part(part: bytes, censor: Censor, depth: int) -> bytes:
    begin = _DELIMITER_END.match(part)
    if begin is None:
        raise CannotRedact("not a boundary")
    head, blank, content = part[begin.end() :].partition(b"\r\n\r\n")
    if part[begin.end() :].startswith(b"\r\n"):
        head, blank, content = b"", b"\r\n", part[begin.end() + 2 :]
    if not blank:
        raise CannotRedact("a part without an end of its head")
    headers: dict[str, str] = {}
    lines = []
    for line in as_text(head).split("\r\n") if head else []:
        censor.spend(len(line) + 1)
        name, colon, value = line.partition(":")
        if not colon:
            raise CannotRedact("a part with a broken head")
        headers.setdefault(name.strip().lower(), value.strip())
        if name.lower() not in {
            "content-disposition",
            "content-type",
            "content-transfer-encoding",
        }:
            value = " " + censor.value(value.strip(), "header", name)
        lines.append(name + colon + censor.detected(value))
    changed = _part_content(content, headers, censor, depth)
    return part[: begin.end()] + as_bytes("\r\n".join(lines)) + blank + changed


def _part_content(
    content: bytes, headers: dict[str, str], censor: Censor, depth: int
) -> bytes:
    """What cannot be redacted becomes a token: the other parts are worth keeping."""
    name = parameters(headers.get("content-disposition", ""))[1].get("name", "")
    if name in censor.names:
        return as_bytes(censor.value(as_text(content), "name", name))
    encoding = headers.get("content-transfer-encoding", "").lower()
    if encoding not in {"", "7bit", "8bit", "binary"}:
        return as_bytes(censor.value(as_text(content), "part", name))
    try:
        return _content(content, headers.get("content-type", ""), censor, depth + 1)
    except OverBudget:
        raise
    except (CannotRedact, jsontext.TooDeep):
        return as_bytes(censor.value(as_text(content), "part", name))
