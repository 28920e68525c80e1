# SPDX-License-Identifier: Apache-2.0
"""Names of addresses, as they were when a connection was made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.protocols.dns import Answer, Answers
from deetune_otel.topology.addresses import (
    MAX_RANGES,
    OTHERS_FLOOR_S,
    OWN_FLOOR_S,
    AddressBook,
    Named,
)

S = 1_000_000_000
ME, OTHER, THIRD = 1, 2, 3


def told(name: str, *addresses: str, ttl: int = 30) -> Answers:
    return Answers(
        name=name,
        aliases=("lb.provider.example",),
        addresses=tuple(Answer(address, ttl) for address in addresses),
    )


def name(book: AddressBook, address: str, at_s: float, owner_id: int = ME) -> str:
    named = book.name_at(address, 80, owner_id=owner_id, at_ns=int(at_s * S))
    assert named is None or named.found_by == "dns"
    return "" if named is None else named.name


def test_the_newest_answer_before_the_connection_decides() -> None:
    book = AddressBook()
    book.learn(told("old.example", "10.0.0.7", "10.0.0.8"), ME, 100 * S)
    book.learn(told("new.example", "10.0.0.7"), ME, 200 * S)
    assert name(book, "10.0.0.7", 99.9) == ""
    assert name(book, "10.0.0.7", 100) == "old.example"
    assert name(book, "10.0.0.7", 199) == "old.example"
    assert name(book, "10.0.0.7", 200) == "new.example"
    assert name(book, "10.0.0.8", 250) == "old.example"
    assert name(book, "10.0.0.9", 250) == ""


def test_an_address_that_comes_back() -> None:
    book = AddressBook()
    for at_s, one in ((100, "a"), (110, "b"), (120, "a"), (125, "a")):
        book.learn(told(one, "10.0.0.7"), ME, at_s * S)
    seen = [name(book, "10.0.0.7", at_s) for at_s in (105, 115, 121, 130)]
    assert seen == ["a", "b", "a", "a"]


@pytest.mark.parametrize("ttl", [0, 5, 30, 86_400])
def test_how_long_an_answer_stays(ttl: int) -> None:
    book = AddressBook()
    book.learn(told("a.example", "10.0.0.7", ttl=ttl), ME, 100 * S)
    own_s, others_s = 100 + max(ttl, OWN_FLOOR_S), 100 + max(ttl, OTHERS_FLOOR_S)
    assert name(book, "10.0.0.7", own_s) == "a.example"
    assert name(book, "10.0.0.7", own_s + 1) == ""
    assert name(book, "10.0.0.7", others_s, OTHER) == "a.example"
    assert name(book, "10.0.0.7", others_s + 1, OTHER) == ""


def test_between_two_answers_it_is_not_anybody_elses() -> None:
    book = AddressBook()
    for at_s in (100, 300):
        book.learn(told("a.example", "10.0.0.7", ttl=5), ME, at_s * S)
    assert name(book, "10.0.0.7", 200) == "a.example"
    assert name(book, "10.0.0.7", 200, OTHER) == ""
    assert name(book, "10.0.0.7", 301, OTHER) == "a.example"


def test_its_own_answer_before_those_of_others() -> None:
    book = AddressBook()
    book.learn(told("mine.example", "10.0.0.7"), ME, 100 * S)
    book.learn(told("theirs.example", "10.0.0.7"), OTHER, 101 * S)
    assert name(book, "10.0.0.7", 102) == "mine.example"
    assert name(book, "10.0.0.7", 102, OTHER) == "theirs.example"
    assert name(book, "10.0.0.7", 102, THIRD) == "", "two names: it could be either"


def test_the_configuration_before_dns() -> None:
    book = AddressBook(
        {
            "10.0.0.7": "everything",
            "10.0.0.7:80": "web",
            "[fd00:0::7]:80": "six",
            "fd00::8": "eight",
        }
    )
    book.learn(told("dns.example", "10.0.0.7"), ME, 100 * S)

    def configured(address: str, port: int) -> str:
        named = book.name_at(address, port, owner_id=ME, at_ns=101 * S)
        assert named is None or named == Named(named.name, "config")
        return named.name if named else ""

    assert configured("10.0.0.7", 80) == "web"
    assert configured("10.0.0.7", 443) == "everything"
    assert configured("fd00::7", 80) == "six"
    assert configured("fd00::7", 81) == ""
    assert configured("fd00::8", 1) == "eight"
    assert book.configured("10.0.0.7") == Named("everything", "config")
    assert book.configured("10.0.0.8") is None


def test_a_number_given_to_another_process_starts_anew() -> None:
    book = AddressBook()
    book.learn(told("a.example", "10.0.0.7", ttl=1), ME, 100 * S)
    book.learn(told("a.example", "10.0.0.8", ttl=1), OTHER, 100 * S)
    book.forget({ME})
    assert name(book, "10.0.0.7", 200) == ""
    assert name(book, "10.0.0.8", 200, OTHER) == "a.example"


def test_what_it_keeps_is_bounded_and_what_it_forgets_is_counted() -> None:
    book = AddressBook(max_own=10, max_addresses=5)
    for i in range(30):
        book.learn(told("a.example", f"10.0.0.{i}"), ME, 100 * S)
    assert book.kept == 15
    assert book.forgotten == 20 + 25
    assert name(book, "10.0.0.0", 101) == ""
    assert name(book, "10.0.0.29", 101) == "a.example"


def test_names_of_one_address_are_bounded() -> None:
    book = AddressBook()
    for i in range(100):
        book.learn(told(f"{i}.example", "10.0.0.7"), ME, (100 + i) * S)
    assert name(book, "10.0.0.7", 100 + 99 - MAX_RANGES) == ""
    assert name(book, "10.0.0.7", 100 + 99 - MAX_RANGES + 1) == "92.example"
    assert name(book, "10.0.0.7", 300) == "99.example"


def test_two_answers_that_overtook_each_other() -> None:
    book = AddressBook()
    book.learn(told("late.example", "10.0.0.7"), ME, 101 * S)
    book.learn(told("early.example", "10.0.0.7"), ME, 100 * S)
    assert name(book, "10.0.0.7", 100) == "early.example"
    assert name(book, "10.0.0.7", 101) == "late.example"


@given(
    learned=st.dictionaries(
        st.integers(0, 60), st.sampled_from("ab"), max_size=MAX_RANGES
    ),
    at_s=st.integers(0, 80),
)
def test_whatever_was_told_the_newest_one_decides(
    learned: dict[int, str], at_s: int
) -> None:
    book = AddressBook()
    for at, one in sorted(learned.items()):
        book.learn(told(one, "10.0.0.7"), ME, at * S)
    before = [at for at in learned if at <= at_s]
    assert name(book, "10.0.0.7", at_s) == (learned[max(before)] if before else "")
