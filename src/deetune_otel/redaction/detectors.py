# SPDX-License-Identifier: Apache-2.0
"""What gives itself away in any text: e-mail addresses, card numbers, tokens of known makers.

One pattern finds where something may be, in one pass; a check of its own decides what it is
(Luhn, mod 97, the look of a local part). Nothing here takes more than linear time: runs are
taken whole, and what is looked at around a candidate is bounded.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from deetune_otel.redaction.tokens import TOKEN

__all__ = ["RULES", "Detectors", "Hit", "looks_random"]


class Hit(NamedTuple):
    """A secret in a text."""

    start: int
    end: int
    rule: str


# Where a rule's secret may begin. No alternative may begin with a group or a look-behind: the
# regular expression engine skips by first characters, and only by those.
_WHERE: Final[Mapping[str, str]] = {
    "email": r"@[^\W_]|%40[^\W_]",
    "userinfo": r"""://[^\s/?#@"'<>\\]{1,512}+@""",
    "jwt": r"ey[JA][A-Za-z0-9_-]{5}",
    "private_key": r"-----BEGIN [A-Z0-9 ]{0,40}+",
    "bearer": r"[Bb]earer[ ]|BEARER[ ]",
    "basic": r"[Bb]asic[ ]|BASIC[ ]",
    "aws": r"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}",
    "gcp": r"AIza[\w-]{35}|ya29\.[\w.-]{20,512}+|GOCSPX-[\w-]{20,64}+",
    "azure": r"AccountKey=[A-Za-z0-9+/]{40,128}+=*+|8Q~[\w.~-]{31,37}+",
    "github": r"gh[pousr]_[A-Za-z0-9]{30,255}+|github_pat_\w{22,255}+",
    "gitlab": r"gl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent)-[\w-]{20,255}+",
    "slack": r"xox[abcdeoprs]-[A-Za-z0-9-]{10,255}+|xapp-[A-Za-z0-9-]{10,255}+"
    r"|hooks\.slack\.com/(?:services|workflows)/[\w/]{20,255}+",
    "stripe": r"[sr]k_live_[A-Za-z0-9]{10,255}+|[sr]k_test_[A-Za-z0-9]{10,255}+"
    r"|whsec_[A-Za-z0-9+/=]{16,255}+",
    "api_key": r"sk-[A-Za-z0-9_-]{20,255}+|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,512}+"
    r"|SG\.[\w-]{16,64}+\.[\w-]{16,128}+|hv[sbr]\.[\w-]{20,255}+"
    r"|do[por]_v1_[a-f0-9]{64}",
    "iban": r"[A-Z]{2}[0-9]{2}[ ]?[A-Z0-9]{4}[A-Z0-9 ]{7,32}+",
    "card": r"[2-6][0-9]{3}[ -]?[0-9]{4}(?:[0-9]{4,11}+|[0-9]{2}[ -][0-9]{5}"
    r"|[ -][0-9]{4}[ -][0-9]{1,7}+)",
    "phone": r"\+[1-9][0-9 ().-]{6,24}+",
}
# What stands in every text with such a secret: these are found thirty times as fast. userinfo
# has the rarer one of its marks.
_MARKS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "email": (b"@", b"%"),  # `%40` would take 1.7 µs of 2 KB, one symbol 0.1
    "userinfo": (b"@",),
    "private_key": (b"-----BEGIN ",),
    "bearer": (b"earer ", b"BEARER "),
    "basic": (b"asic ", b"BASIC "),
    "phone": (b"+",),
}
# Likewise, but these secrets have no spaces in them and are long: only long runs of symbols are
# searched for their marks, of which there are too many for all of a text.
_MARKS_IN_RUNS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "jwt": (b"eyJ", b"eyA"),
    "aws": (b"AKIA", b"ASIA", b"ABIA", b"ACCA"),
    "gcp": (b"AIza", b"ya29.", b"GOCSPX-"),
    "azure": (b"AccountKey=", b"8Q~"),
    "github": (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    "gitlab": (
        *(b"glpat-", b"gldt-", b"glrt-", b"glptt-", b"glcbt-", b"glsoat-"),
        *(b"glft-", b"glimt-", b"glagent-"),
    ),
    "slack": (b"xox", b"xapp-", b"hooks.slack.com/"),
    "stripe": (b"k_live_", b"k_test_", b"whsec_"),
    "api_key": (
        *(b"sk-", b"npm_", b"pypi-", b"SG.", b"hvs.", b"hvb.", b"hvr.", b"_v1_"),
    ),
}
# One of these symbols is in each of them, and most runs have few of these symbols.
_RARE: Final = b"~=._-JAx"
RULES: Final = tuple(_WHERE)
_OURS: Final = "ours"

_LOCAL: Final = re.compile(r"[\w.%+'-]{1,64}+")
_DOMAIN: Final = re.compile(
    r"[^\W_](?:[^\W_]|-){0,62}+(?:\.[^\W_](?:[^\W_]|-){0,62}+){1,8}+"
)
_TOP: Final = re.compile(r"\.([^\W\d_]{2,24}+)(?!(?:[^\W_]|-))")
_NO_DOMAIN: Final = frozenset({"gif", "jpeg", "jpg", "png", "svg", "webp"})  # x@2x.png
_RUN: Final = re.compile(r"[A-Za-z0-9_-]*+")
_JWT: Final = re.compile(r"[\w-]++\.[\w-]{4,}+\.[\w-]*+(?:\.[\w-]*+){0,2}+", re.ASCII)
_END_OF_KEY: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}+-----")
_CREDENTIAL: Final = re.compile(r"[\w.~+/-]{12,}+=*+", re.ASCII)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{6,4096}+={0,2}+")
_IBANS: Final = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28
CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23
GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28
LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28
NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24
SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
_IBAN_LENGTHS: Final = {one[:2]: int(one[2:]) for one in _IBANS.split()}
# By first digits: which lengths card numbers of this maker have.
_CARDS: Final = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[68])"), (14, 16)),
    (re.compile(r"6(?:011|4[4-9]|5|2)|35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(r"5[0678]|6[37]"), (13, 14, 15, 16, 17, 18, 19)),
)
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_.~-]+=*")
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")


def _classes(symbols: bytes) -> bytes:
    """A table for `translate`: "x" for these symbols, and a space for all others."""
    return bytes(ord("x") if one in symbols else ord(" ") for one in range(256))


_DIGITS: Final = b"0123456789"
_CAPITALS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Rules without marks: the least length of such a secret, of which symbols, and which others it
# may have between them.
_LENGTHS: Final[Mapping[str, tuple[bytes, bytes, bytes]]] = {
    "card": (b"x" * 13, _classes(_DIGITS), b" -"),
    "iban": (b"x" * 15, _classes(_DIGITS + _CAPITALS), b" "),
}
# The shortest one of _MARKS_IN_RUNS is a JWT: 8 symbols, a dot, 4 symbols, a dot.
_LONG: Final = b"x" * 14
_IN_RUNS: Final = _classes(
    _DIGITS + _CAPITALS + _CAPITALS.lower() + b"_.~+/=-" + bytes(range(128, 256))
)
# What is shorter than 13 is no card, IBAN, run or credential: e-mail addresses, telephone numbers,
# user information and `Basic` have one of these.
_SHORT: Final = 13
_IN_SHORT: Final = re.compile(r"[@%+ ]")

# What a check says: the secret's bounds, or that this rule has nothing before an offset.
_Checked = tuple[int, int] | int


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def _email(text: str, start: int, _: int) -> _Checked:
    after = start + (3 if text[start] == "%" else 1)
    domain = _DOMAIN.match(text, after)
    local = _LOCAL.match(text[max(0, start - 64) : start][::-1])
    if domain is None or local is None:
        return after
    tops = _TOP.findall(domain[0])
    if not tops or tops[-1].lower() in _NO_DOMAIN:
        return after
    begin = start - local.end()
    while text[begin] in "'.-" and begin < start - 1:
        begin += 1
    return begin, domain.end()


def _userinfo(_text: str, start: int, end: int) -> _Checked:
    return start + 3, end - 1


def _jwt(text: str, start: int, _: int) -> _Checked:
    if found := _JWT.match(text, start):
        return start, found.end()
    # What follows this run is no second part for any later beginning in it either.
    return _end(_RUN, text, start)


def _private_key(text: str, start: int, end: int) -> _Checked:
    if not text[start:end].rstrip().endswith("PRIVATE KEY") or (
        not text.startswith("-----", end)
    ):
        return end
    closing = _END_OF_KEY.search(text, end)
    return start, closing.end() if closing else len(text)


def _bearer(text: str, _: int, end: int) -> _Checked:
    found = _CREDENTIAL.match(text, end)
    if found is None or not any(c.isdigit() for c in found[0]):
        return end
    return end, found.end()


def _basic(text: str, _: int, end: int) -> _Checked:
    found = _BASE64.match(text, end)
    if found is None:
        return end
    try:
        return (end, found.end()) if b":" in b64decode(found[0]) else end
    except binascii.Error:
        return end


def _azure(text: str, start: int, end: int) -> _Checked:
    return (start + 11, end) if text[start] == "A" else (max(0, start - 3), end)


def _iban(text: str, start: int, end: int) -> _Checked:
    length = _IBAN_LENGTHS.get(text[start : start + 2])
    if length is None or _is_word(text, start - 1):
        return start + 1
    symbols = ""
    for at in range(start, end):
        if text[at] != " ":
            symbols += text[at]
        if len(symbols) == length:
            number = "".join(str(int(c, 36)) for c in symbols[4:] + symbols[:4])
            if int(number) % 97 == 1 and not _is_word(text, at + 1):
                return start, at + 1
            break
    return start + 1


def _card(text: str, start: int, end: int) -> _Checked:
    is_inside = _is_word(text, start - 1) or _is_word(text, end)
    is_fraction = start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()
    if (
        is_inside
        or is_fraction
        or (text[end : end + 1] == "." and _is_word(text, end + 1))
    ):
        return start + 1
    digits = text[start:end].replace(" ", "").replace("-", "")
    for first, lengths in _CARDS:
        if first.match(digits) and len(digits) in lengths:
            odd, even = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
            if sum(map(int, odd + even)) % 10 == 0:
                return start, end
    return start + 1


def _phone(text: str, start: int, end: int) -> _Checked:
    while not text[end - 1].isdigit():
        end -= 1
    if (start and (_is_word(text, start - 1) or text[start - 1] in "+/=")) or (
        _is_word(text, end) or text[end : end + 1] in {"/", "+", "="}
    ):
        return start + 1
    digits = sum(c.isdigit() for c in text[start:end])
    is_one = 8 <= digits <= 15 and not re.search(r"[ ().-]{3}", text[start:end])
    return (start, end) if is_one else start + 1


def _whole(_text: str, start: int, end: int) -> _Checked:
    return start, end


_CHECKS: Final[Mapping[str, Callable[[str, int, int], _Checked]]] = {
    "email": _email,
    "userinfo": _userinfo,
    "jwt": _jwt,
    "private_key": _private_key,
    "bearer": _bearer,
    "basic": _basic,
    "azure": _azure,
    "iban": _iban,
    "card": _card,
    "phone": _phone,
}


def _long_runs(data: bytes) -> bytes:
    """What has no spaces, quotes and the like in it for long, one after the other."""
    classes = data.translate(_IN_RUNS)
    runs, start = [], classes.find(_LONG)
    while start >= 0:
        end = classes.find(b" ", start)
        end = len(data) if end < 0 else end
        runs.append(data[start:end])
        start = classes.find(_LONG, end)
    return b" ".join(runs)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


class Detectors:
    """The rules that are switched on, and patterns of the user's own, by name."""

    def __init__(
        self, enabled: Collection[str] = RULES, own: Mapping[str, str] | None = None
    ) -> None:
        chosen = {rule: where for rule, where in _WHERE.items() if rule in enabled}
        self._each = {rule: re.compile(where) for rule, where in chosen.items()}
        self._lengths = [(r, *of) for r, of in _LENGTHS.items() if r in chosen]
        self._marks = [(r, m) for r, ms in _MARKS.items() if r in chosen for m in ms]
        self._marks_in_runs: dict[bytes, list[tuple[str, bytes]]] = {}
        for rule in _MARKS_IN_RUNS.keys() & chosen.keys():
            for mark in _MARKS_IN_RUNS[rule]:
                rare = next(one for one in _RARE if one in mark)
                of_rare = self._marks_in_runs.setdefault(bytes([rare]), [])
                of_rare.append((rule, mark))
        self._where = re.compile(
            "|".join(
                f"(?P<{rule}>{where})"
                for rule, where in {_OURS: TOKEN.pattern, **chosen}.items()
            )
        )
        self._own = [(name, re.compile(one)) for name, one in (own or {}).items()]

    def may_be_in(self, text: str) -> bool:
        """Whether looking closer, at this text or at parts of it, makes sense."""
        return bool(self._own) or self._has_any(text)

    def find(self, text: str) -> list[Hit]:
        """All secrets, in their order; they do not overlap, and are no tokens of ours."""
        found = self._found(text) if self._has_any(text) else []
        if self._own:
            found = sorted(found + self._found_by_own(text))
        hits: list[Hit] = []
        for hit in found:
            if not hits or hit.start >= hits[-1].end:
                hits.append(hit)
            elif hit.end > hits[-1].end:  # overlapping: nothing of either may stay
                hits[-1] = hits[-1]._replace(end=hit.end)
        return hits

    def _has_any(self, text: str) -> bool:
        """Whether a rule fits anywhere: for harmless 2 KB in 15 to 25 µs, not in 700."""
        if len(text) < _SHORT and not _IN_SHORT.search(text):
            return False
        rules = self._rules_in(text)
        return bool(rules) and any(self._has(rule, text) for rule in rules)

    def _rules_in(self, text: str) -> set[str]:
        """The rules of which there may be a secret. Loops: any() and the like are slower."""
        data = text.encode("utf-8", "surrogatepass")
        rules = set()
        for rule, least, table, between in self._lengths:
            if least in data.translate(table, between):
                rules.add(rule)
        for rule, mark in self._marks:
            if mark in data:
                rules.add(rule)
        if runs := _long_runs(data):
            for rare, marks in self._marks_in_runs.items():
                if rare in runs:
                    rules.update([rule for rule, mark in marks if mark in runs])
        return rules

    def _has(self, rule: str, text: str) -> bool:
        """Whether there is one of this rule, be it in a token or another secret."""
        pattern, check, at = self._each[rule], _CHECKS.get(rule, _whole), 0
        while match := pattern.search(text, at):
            checked = check(text, *match.span())
            if not isinstance(checked, int):
                return True
            at = max(checked, match.start() + 1)
        return False

    def _found(self, text: str) -> list[Hit]:
        hits: list[Hit] = []
        nothing_before: dict[str, int] = {}
        at = floor = 0  # floor: behind the last secret or token
        while match := self._where.search(text, at):
            rule = match.lastgroup or ""
            at = match.start() + 1
            if rule == _OURS:
                at = floor = match.end()
                continue
            if match.start() < nothing_before.get(rule, 0):
                continue
            checked = _CHECKS.get(rule, _whole)(text, *match.span())
            if isinstance(checked, int):
                nothing_before[rule] = checked
            elif checked[0] >= floor and not TOKEN.match(text, checked[0]):
                hits.append(Hit(*checked, rule))
                at = floor = max(at, checked[1])
        return hits

    def _found_by_own(self, text: str) -> list[Hit]:
        tokens = [found.span() for found in TOKEN.finditer(text)]
        hits = []
        for name, pattern in self._own:
            for found in pattern.finditer(text):
                start, end = found.span()
                before = bisect_right(tokens, (start, len(text)))
                is_token = before and end <= tokens[before - 1][1]
                if end > start and not is_token:
                    hits.append(Hit(start, end, name))
        return hits


def looks_random(text: str, *, least: int = 20) -> bool:
    """Whether this part of a URL or key looks like a credential rather than a name or an id.

    A guess: letters of both cases and digits, long, and changing between them all the time. UUIDs
    and hexadecimal ids look like ids. Names in CamelCase with a number may be taken for random.
    """
    if len(text) < least or not _RANDOM.fullmatch(text):
        return False
    kinds = "".join(
        "d" if c.isdigit() else "u" if c.isupper() else "l" for c in text if c.isalnum()
    )
    if len(set(kinds)) < 3:
        return False
    changes = sum(one != other for one, other in pairwise(kinds))
    return changes * 3 >= len(text)
