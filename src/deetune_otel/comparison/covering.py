# SPDX-License-Identifier: Apache-2.0
"""What a test instance answered, as reports may show it: its secrets are replaced as recorded ones
are. Verdicts are made before, with what was really there.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from deetune_otel.comparison.findings import Finding
from deetune_otel.redaction import jsontext
from deetune_otel.redaction.censor import Censor
from deetune_otel.redaction.redactor import Redactor

if TYPE_CHECKING:
    from deetune_otel.comparison.judging import Verdict
    from deetune_otel.redaction.policy import Policy
    from deetune_otel.redaction.tokens import Tokens

__all__ = ["Covering"]

# The look-behind: it is not tried again from within a name that does not end the place.
_NAME: Final = re.compile(r"(?<![^\s.\[\]])([^\s.\[\]]++)(?:\[[0-9*]{0,20}+\]){0,64}$")
_HEADER: Final = "header "


class Covering:
    """By a policy; tokens are equal where values are."""

    def __init__(self, policy: Policy, tokens: Tokens) -> None:
        self._censor = Censor(policy, tokens)
        self._redactor = Redactor(policy, tokens)
        self._kept = {one.lower() for one in policy.kept_headers}

    def verdict(self, verdict: Verdict) -> Verdict:
        if not verdict.findings:  # nothing of it is shown
            return verdict
        answered = replace(verdict.exchange, response=verdict.answer.message)
        message = self._redactor.redact(answered).response
        return replace(
            verdict,
            answer=verdict.answer._replace(message=message),
            findings=tuple(map(self._finding, verdict.findings)),
        )

    def _finding(self, finding: Finding) -> Finding:
        place = finding.place
        if place.startswith(_HEADER):
            name = place.removeprefix(_HEADER)
            is_secret = name.lower() not in self._kept
        else:
            found = _NAME.search(place)
            name = found[1] if found else ""
            is_secret = name in self._censor.names
        return finding._replace(
            expected=self._covered(finding.expected, is_secret=is_secret),
            actual=self._covered(finding.actual, is_secret=is_secret),
        )

    def _covered(self, value: Any, *, is_secret: bool) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str | int | float):
            text = str(value)
            changed = (
                self._censor.value(text, "name")
                if is_secret
                else self._censor.text(text)
            )
            return value if changed == text else changed
        try:
            text = json.dumps(value, ensure_ascii=False)
            if is_secret:
                return self._censor.value(text, "name")
            return json.loads(jsontext.redact(text, self._censor))
        except (ValueError, TypeError, RecursionError):
            return "(not shown)"
