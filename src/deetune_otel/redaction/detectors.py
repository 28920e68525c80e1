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
_MARKS: Final[Mapping[str, tuple[str, ...]]] = {
    "email": (
        "@",
        "%40",
    ),
    "userinfo": ("@",),
    "jwt": (
        "eyJ",
        "eyA",
    ),
    "private_key": ("-----BEGIN ",),
    "bearer": (
        "earer ",
        "BEARER ",
    ),
    "basic": (
        "asic ",
        "BASIC ",
    ),
    "aws": (
        "AKIA",
        "ASIA",
        "ABIA",
        "ACCA",
    ),
    "gcp": (
        "AIza",
        "ya29.",
        "GOCSPX-",
    ),
    "azure": (
        "AccountKey=",
        "8Q~",
    ),
    "github": (
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
    ),
    "gitlab": (
        "glpat-",
        "gldt-",
        "glrt-",
        "glptt-",
        "glcbt-",
        "glsoat-",
        "glft-",
        "glimt-",
        "glagent-",
    ),
    "slack": (
        "xox",
        "xapp-",
        "hooks.slack.com/",
    ),
    "stripe": (
        "k_live_",
        "k_test_",
        "whsec_",
    ),
    "api_key": (
        "sk-",
        "npm_",
        "pypi-",
        "SG.",
        "hvs.",
        "hvb.",
        "hvr.",
        "_v1_",
    ),
    "phone": ("+",),
}
# What has no such mark: numbers of cards and accounts begin like this.
_NUMBERS: Final = re.compile(r"[2-6A-Z][0-9A-Z][0-9]{2}[ -]?[A-Z0-9]{4}")
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


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


class Detectors:
    """The rules that are switched on, and patterns of the user's own, by name."""

    def __init__(
        self, enabled: Collection[str] = RULES, own: Mapping[str, str] | None = None
    ) -> None:
        chosen = {rule: where for rule, where in _WHERE.items() if rule in enabled}
        self._marks = [
            mark for rule, marks in _MARKS.items() if rule in chosen for mark in marks
        ]
        self._has_numbers = not _MARKS.keys() >= chosen.keys()
        self._where = re.compile(
            "|".join(
                f"(?P<{rule}>{where})"
                for rule, where in {_OURS: TOKEN.pattern, **chosen}.items()
            )
        )
        self._own = [(name, re.compile(one)) for name, one in (own or {}).items()]

    def may_be_in(self, text: str) -> bool:
        """Whether looking closer, at this text or at parts of it, makes sense."""
        for mark in self._marks:  # a loop: any() is twice as slow
            if mark in text:
                return True
        if self._has_numbers and _NUMBERS.search(text):
            return True
        return bool(self._own)

    def find(self, text: str) -> list[Hit]:
        """All secrets, in their order; they do not overlap, and are no tokens of ours."""
        if not self.may_be_in(text):
            return []
        hits: list[Hit] = []
        for hit in sorted(self._found(text) + self._found_by_own(text)):
            if not hits or hit.start >= hits[-1].end:
                hits.append(hit)
            elif hit.end > hits[-1].end:  # overlapping: nothing of either may stay
                hits[-1] = hits[-1]._replace(end=hit.end)
        return hits

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
        if not self._own:
            return []
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
