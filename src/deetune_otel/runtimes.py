# SPDX-License-Identifier: Apache-2.0
"""Which programs answer a request on the thread that makes the requests it causes. Pure.

Threads per request (CPython, Ruby, PHP, Perl) and single-threaded loops (node, nginx) do; where a
loop has several requests open the kernel side sees that and links none. Go moves its goroutines
between threads, the JVM's and native servers' pools hand requests on: for all that is not in the
list a thread says nothing, and a wrong parent is worse than none.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["stays_on_thread"]

# Executables' names, with the versions that distributions put behind them.
_STAYS: Final = re.compile(
    r"(python|pypy|ruby|perl|php|php-fpm|php-cgi|uwsgi|node|nodejs|nginx|openresty"
    r"|apache2|httpd)[\d.]*(-\w+)?"
)


def stays_on_thread(executable: str) -> bool:
    """`executable` is a file's name: "python3.11", "php-fpm8.2"."""
    return _STAYS.fullmatch(executable) is not None
