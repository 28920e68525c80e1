# SPDX-License-Identifier: Apache-2.0
"""Asks for one URL after the other on one connection, says what came, and stays.

    python client.py PORT COUNT PATH [PATH ...]

Each path is asked for COUNT times, `{n}` in it is the number of the request. What came, by
status, is one line of JSON on standard output. It then lives on, connection open, until it
is told to end: it is there to be observed.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from http.client import HTTPConnection


def main() -> None:
    port, count = map(int, sys.argv[1:3])
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    seen: Counter[int] = Counter()
    for n in range(count):
        for path in sys.argv[3:]:
            connection.request("GET", path.replace("{n}", str(n)))
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
    print(json.dumps(seen), flush=True)  # noqa: T201 - its result
    signal.pause()


if __name__ == "__main__":
    main()
