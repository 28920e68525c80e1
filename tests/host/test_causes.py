# SPDX-License-Identifier: Apache-2.0
"""What a thread has in hand is the cause of its calls where its program waits for one thing at a time.

Everything else is refused and counted: a wrong cause is worse than none.
"""

from __future__ import annotations

import re
from typing import Final

import pytest
from tests.host.engine import (
    LISTENS,
    PIPE,
    Chunk,
    Counted,
    Host,
    Seen,
    Trust,
    Wait,
    close,
    events_enum,
    io,
    opened,
    refused,
    thread,
    waits,
    watched,
)

from deetune_otel.model import Protocol, Role

GET: Final = b"GET /a HTTP/1.1\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
QUERY, ROWS = b"\x00query", b"\x00rows"
DONTWAIT: Final = 0x40
# Sockets: a server's end, another one, a client's end of a third connection.
SERVED, OTHER, UPSTREAM = 1, 3, 2
NOBODY, THREAD, AMBIGUOUS = range(3)

TCP_OPEN: Final = [
    opened(Role.SERVER, SERVED),
    opened(Role.SERVER, OTHER),
    opened(Role.CLIENT, UPSTREAM),
]
FUTEX: Final = waits(Wait.LOCK)


def asked(*, flags: int = 0, sock: int = SERVED, data: bytes = GET) -> list[bytes]:
    """A request is read."""
    return [io(Chunk(is_request=True, data=data), Role.SERVER, sock, flags=flags)]


def answers(sock: int = SERVED, data: bytes = OK) -> list[bytes]:
    return [io(Chunk(is_request=False, data=data), Role.SERVER, sock)]


def calls(*between: bytes, request: bytes = QUERY, answer: bytes = ROWS) -> list[bytes]:
    """A request is sent, and its answer is read after what comes between."""
    return [
        io(Chunk(is_request=True, data=request), Role.CLIENT, UPSTREAM),
        *between,
        io(Chunk(is_request=False, data=answer), Role.CLIENT, UPSTREAM),
    ]


ALONE: Final = waits(Wait.READ, UPSTREAM)


def bracket(
    wait: bytes = ALONE, *, flags: int = 0, idle: bytes = FUTEX, sock: int = SERVED
) -> list[bytes]:
    """Whatever sleeps so while it calls, and so when it has answered."""
    return [*asked(flags=flags, sock=sock), *calls(wait), *answers(sock), idle]


def made(seen: Seen) -> list[int]:
    """Of the calls, in their order: how their cause was found."""
    return [one.cause_found for one in seen.exchanges if one.role is Role.CLIENT]


def last_served(seen: Seen) -> Counted:
    return [one for one in seen.exchanges if one.role is Role.SERVER][-1]


def run(host: Host, *script: list[bytes]) -> Seen:
    return host.run([*TCP_OPEN, *(one for part in script for one in part)]).check()


def test_the_numbers_are_those_of_the_kernel() -> None:
    told = events_enum("dt_trust")
    ours = {re.sub("^TRUST_|^", "", one.name or ""): one.value for one in Trust}
    assert {name.removeprefix("trust_").upper(): n for n, name in told.items()} == ours


def test_the_second_request_of_a_program_is_a_cause(host: Host) -> None:
    seen = run(host, bracket() * 3)
    assert made(seen) == [NOBODY, THREAD, THREAD]
    assert seen.trust is Trust.BLOCKING
    assert seen.unproven == 1
    assert seen.ledger["unproven"].exchanges == 1
    last = [one for one in seen.exchanges if one.role is Role.CLIENT][-1]
    assert last.protocol is Protocol.UNKNOWN
    assert last.cause == last_served(seen).wire


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (QUERY, ROWS),
        (GET, OK),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"HELO x\r\n", b"250 x\r\n"),  # taken for HTTP at first
    ],
)
def test_calls_of_every_protocol(host: Host, request_: bytes, answer: bytes) -> None:
    one = [
        *asked(),
        *calls(ALONE, request=request_, answer=answer),
        *calls(ALONE, request=request_, answer=answer),
        *answers(),
        FUTEX,
    ]
    seen = run(host, one * 2)
    assert made(seen) == [NOBODY, NOBODY, THREAD, THREAD]


@pytest.mark.parametrize(
    "request_", [GET, QUERY, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"], ids=str
)
def test_requests_of_every_protocol_are_causes(host: Host, request_: bytes) -> None:
    answer = {GET: OK, QUERY: ROWS}.get(request_, b"$-1\r\n")
    one = [*asked(data=request_), *calls(ALONE), *answers(data=answer), FUTEX]
    seen = run(host, one * 3)
    assert made(seen) == [NOBODY, THREAD, THREAD]


def test_a_failed_connect_has_a_cause(host: Host) -> None:
    seen = run(host, bracket() * 2, [*asked(), refused(111, 0)], answers())
    assert made(seen) == [NOBODY, THREAD, THREAD]
    assert seen.exchanges[-2].protocol is Protocol.CONNECT


def test_requests_before_the_newest_have_theirs_too(host: Host) -> None:
    """Pipelined: by the time of the answers another request is the newest."""
    ping = io(Chunk(is_request=True, data=b"*1\r\n$4\r\nPING\r\n"), Role.CLIENT, 0)
    pongs = io(Chunk(is_request=False, data=b"+PONG\r\n" * 3), Role.CLIENT, 0)
    pipeline = [opened(Role.CLIENT, 0), *[ping] * 3, pongs]
    seen = run(host, bracket(), asked(), pipeline, answers())
    assert made(seen) == [NOBODY, THREAD, THREAD, THREAD]


# ---- how programs wait that stay with a request ---------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        waits(Wait.READ, UPSTREAM),
        waits(Wait.POLL, UPSTREAM),  # with a timeout
        waits(Wait.SELECT, UPSTREAM),
        waits(Wait.POLL, UPSTREAM, PIPE),  # libcurl can be woken up
        waits(Wait.EPOLL, UPSTREAM),  # an instance for it alone
        waits(Wait.EPOLL, UPSTREAM, PIPE),
    ],
)
@pytest.mark.parametrize(
    "idle",
    [
        FUTEX,
        waits(Wait.READ, SERVED),
        waits(Wait.POLL, SERVED),
        waits(Wait.SELECT, LISTENS, PIPE),  # a worker that was forked
        waits(Wait.EPOLL, PIPE),
    ],
)
def test_who_waits_for_one_thing_at_a_time(
    host: Host, wait: bytes, idle: bytes
) -> None:
    assert made(run(host, bracket(wait, idle=idle) * 3)) == [NOBODY, THREAD, THREAD]


@pytest.mark.parametrize("how", [Wait.POLL, Wait.EPOLL, Wait.SELECT])
@pytest.mark.parametrize(
    "idle", [FUTEX, waits(Wait.READ, SERVED), waits(Wait.POLL, SERVED)]
)
def test_sockets_that_do_not_block_are_judged_by_themselves(
    host: Host, how: Wait, idle: bytes
) -> None:
    """With a timeout Python's are such, and Ruby's all are."""
    nonblocking = bracket(waits(how, UPSTREAM), flags=DONTWAIT, idle=idle)
    seen = run(host, bracket() * 2, nonblocking * 3)
    assert made(seen) == [NOBODY, THREAD, NOBODY, THREAD, THREAD]
    assert seen.trust is Trust.BLOCKING | Trust.NONBLOCKING


def test_another_thread_of_a_trusted_program(host: Host) -> None:
    """A thread for each connection, that is its first."""
    seen = run(host, bracket(), [thread(102)], bracket(sock=OTHER), [thread(101)])
    assert made(seen) == [NOBODY, THREAD]


def test_what_does_not_wait_proves_nothing(host: Host) -> None:
    """The answer was there before it slept: the next one may not be."""
    seen = run(host, bracket(FUTEX) * 3, bracket() * 2)
    assert made(seen) == [NOBODY] * 4 + [THREAD]


# ---- how programs wait that do something else meanwhile -------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        waits(Wait.EPOLL, PIPE),
        waits(Wait.EPOLL, UPSTREAM, SERVED),
        waits(Wait.EPOLL, PIPE, UPSTREAM, LISTENS),
        waits(Wait.EPOLL, UPSTREAM, *[PIPE] * 3),
        waits(Wait.SELECT, UPSTREAM, PIPE),
        waits(Wait.POLL, UPSTREAM, SERVED),
        waits(Wait.POLL, UPSTREAM, LISTENS),
        waits(Wait.POLL, *[PIPE] * 9),
    ],
)
@pytest.mark.parametrize("flags", [0, DONTWAIT])
def test_who_waits_for_several_things_with_a_request_in_hand(
    host: Host, wait: bytes, flags: int
) -> None:
    seen = run(host, bracket(wait, flags=flags) * 4)
    assert made(seen) == [NOBODY] * 4
    assert Trust.POLLS in seen.trust
    assert not seen.trust & (Trust.BLOCKING | Trust.NONBLOCKING)
    refused_ = seen.ledger["polling"].exchanges + seen.ledger["unproven"].exchanges
    assert refused_ == 4


def test_a_thread_that_polls_is_refused_where_others_are_trusted(host: Host) -> None:
    """For its life, even when it waits for one thing alone afterwards."""
    seen = run(
        host,
        bracket() * 2,
        [thread(102)],
        bracket(waits(Wait.EPOLL, PIPE), sock=OTHER),
        bracket(sock=OTHER) * 2,
        [thread(101)],
        bracket(),
    )
    # its first call was made before it had waited for anything
    assert made(seen) == [NOBODY, THREAD, THREAD, NOBODY, NOBODY, THREAD]


def test_who_serves_at_once_whatever_comes_polls_between_requests(host: Host) -> None:
    """It looks like a worker, as long as each handler does all of its work at once."""
    loop = waits(Wait.SELECT, LISTENS, SERVED, PIPE)
    seen = run(host, bracket(flags=DONTWAIT, idle=loop) * 4)
    assert made(seen) == [NOBODY] * 4
    assert Trust.DISTRUST_NONBLOCKING in seen.trust


@pytest.mark.parametrize("wait", [waits(Wait.EPOLL, UPSTREAM, PIPE)])
def test_what_could_be_woken_up_for_another_thing(host: Host, wait: bytes) -> None:
    """Where sockets do not block it may be a loop that has nothing else to do right now."""
    seen = run(host, bracket(wait, flags=DONTWAIT) * 3)
    assert made(seen) == [NOBODY] * 3
    assert Trust.DISTRUST_NONBLOCKING in seen.trust


def test_one_loop_makes_all_such_sockets_of_its_program_suspect(host: Host) -> None:
    polls = waits(Wait.POLL, UPSTREAM)
    loop = waits(Wait.SELECT, LISTENS, OTHER, PIPE)
    seen = run(
        host,
        bracket(polls, flags=DONTWAIT) * 2,
        [thread(102)],
        bracket(polls, flags=DONTWAIT, sock=OTHER, idle=loop),
        [thread(101)],
        bracket(polls, flags=DONTWAIT),
        bracket(),
        bracket(),
    )
    assert made(seen) == [NOBODY, THREAD, THREAD, NOBODY, NOBODY, THREAD]


@pytest.mark.parametrize("is_trusted", [False, True])
def test_requests_from_a_registered_socket(host: Host, *, is_trusted: bool) -> None:
    """Whoever reads them, at once and for its life: no sleep is waited for."""
    before = [*bracket() * 2, thread(102)] if is_trusted else []
    seen = run(
        host, before, [watched(OTHER)], bracket(sock=OTHER) * 3, bracket(sock=SERVED)
    )
    assert made(seen)[-4:] == [NOBODY] * 4
    assert seen.ledger["polling"].exchanges == 4
    assert seen.unproven <= 1
    assert Trust.POLLS in seen.trust


def test_a_thread_that_hands_requests_on_makes_calls_of_its_own(host: Host) -> None:
    """It is found out when another one answers."""
    seen = run(
        host,
        bracket() * 2,
        [thread(102)],
        asked(sock=OTHER),
        [thread(103)],
        answers(OTHER),
        [thread(102)],
        asked(sock=OTHER),
        calls(ALONE),
        [thread(103)],
        answers(OTHER),
    )
    assert made(seen) == [NOBODY, THREAD, NOBODY]
    assert seen.ledger["polling"].exchanges == 1


def test_a_dispatcher_alone_is_never_trusted(host: Host) -> None:
    one = [*asked(), *calls(ALONE), thread(103), *answers(), thread(101), FUTEX]
    seen = run(host, one * 4)
    assert made(seen) == [NOBODY] * 4
    assert Trust.BLOCKING not in seen.trust


def test_threads_without_a_request_in_hand_have_no_cause(host: Host) -> None:
    background = [thread(102), *calls(ALONE), thread(101)]
    seen = run(host, bracket() * 2, asked(), background, answers(), calls(ALONE))
    assert made(seen) == [NOBODY, THREAD, NOBODY, NOBODY]
    assert "polling" not in seen.ledger


def test_two_in_hand_are_ambiguous(host: Host) -> None:
    """A streaming answer is under way, and another request is read; the last call may be either's,
    although one of them is answered.
    """
    seen = run(
        host,
        bracket() * 2,
        asked(),
        asked(sock=OTHER),
        calls(ALONE),
        answers(OTHER),
        calls(ALONE),
        answers(),
        bracket(),
    )
    assert made(seen) == [NOBODY, THREAD, AMBIGUOUS, AMBIGUOUS, THREAD]
    assert seen.ledger["ambiguous_cause"].exchanges == 2


def test_two_at_once_prove_nothing(host: Host) -> None:
    one = [*asked(), *asked(sock=OTHER), *calls(ALONE), *answers(OTHER), *answers()]
    seen = run(host, [*one, FUTEX] * 3)
    assert made(seen) == [NOBODY] * 3
    assert not seen.trust


def test_what_is_answered_is_in_hand_no_more(host: Host) -> None:
    closed = [*asked(), close(SERVED), *calls(ALONE)]
    seen = run(host, bracket() * 2, asked(), answers(), calls(ALONE), closed)
    assert made(seen) == [NOBODY, THREAD, NOBODY, NOBODY]


def test_a_turn_is_answered_by_its_first_byte(host: Host) -> None:
    """When the last one has come can not be told."""
    first = [*asked(data=QUERY), *answers(data=ROWS), *calls(ALONE)]
    seen = run(host, bracket() * 2, [opened(Role.SERVER, SERVED)], first)
    assert made(seen) == [NOBODY, THREAD, NOBODY]


@pytest.mark.parametrize(
    "other", [thread(101 + 16384), thread(101, later=True)], ids=["place", "number"]
)
def test_what_another_thread_has_left_open(host: Host, other: bytes) -> None:
    """Two threads whose numbers share a place, or are the same."""
    seen = run(host, bracket() * 2, asked(), [other], calls(ALONE))
    assert made(seen) == [NOBODY, THREAD, NOBODY]


def test_what_was_not_answered_proves_nothing(host: Host) -> None:
    """It had waited for one thing alone, but for another request."""
    ended = [*asked(), *calls(ALONE), close(SERVED), opened(Role.SERVER, SERVED)]
    seen = run(host, ended, bracket(FUTEX) * 2)
    assert made(seen) == [NOBODY] * 3
    assert not seen.trust


def test_user_space_is_asked_ever_less_often(host: Host) -> None:
    seen = run(host, bracket(FUTEX) * 1000)
    assert seen.ledger["unproven"].exchanges == 1000
    assert seen.unproven == 64 + 3  # 128, 256, 512
