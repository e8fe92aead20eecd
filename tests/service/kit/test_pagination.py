"""Page tokens open only where they were given; page sizes follow the contract."""

import pytest

from service.kit.errors import Problem
from service.kit.pagination import Listing, decode_page_token, effective_page_size, encode_page_token

KEY = b"k" * 32


@pytest.mark.parametrize(("asked", "given"), [(None, 1_000), (0, 1_000), (1, 1), (10_000, 10_000), (10**12, 10_000)])
def test_page_size_is_cut_not_refused(asked: int | None, given: int) -> None:
    assert effective_page_size(asked) == given


def test_a_token_gives_its_cursor_back() -> None:
    token = encode_page_token(KEY, "acme/job_1", {"rank": 1001, "job": "job_1"})
    assert decode_page_token(KEY, "acme/job_1", token) == {"rank": 1001, "job": "job_1"}


def test_a_token_is_safe_in_a_url_and_the_same_for_the_same_cursor() -> None:
    token = encode_page_token(KEY, "s", {"rank": 5, "name": "ÿ?&"})
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert token == encode_page_token(KEY, "s", {"name": "ÿ?&", "rank": 5})


@pytest.mark.parametrize(("key", "scope"), [(b"x" * 32, "acme/job_1"), (KEY, "acme/job_2"), (KEY, "other/job_1")])
def test_a_token_of_another_listing_is_refused(key: bytes, scope: str) -> None:
    token = encode_page_token(KEY, "acme/job_1", {"rank": 1001})
    with pytest.raises(Problem) as refusal:
        decode_page_token(key, scope, token)
    assert refusal.value.slug == "invalid-page-token"


def test_no_changed_character_is_accepted() -> None:
    token = encode_page_token(KEY, "s", {"rank": 1001})
    for position, character in enumerate(token):
        for other in "AB_":
            if other != character:
                with pytest.raises(Problem):
                    decode_page_token(KEY, "s", token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("token", ["", "A", "é", "!!!!", "AAAA" * 8, "A" * 100_000, "\x00", "a b"])
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(Problem):
        decode_page_token(KEY, "s", token)


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (2, 2), (1_000, 1_000), (1_001, 1_000)])
def test_a_listing_looks_for_one_row_more_than_a_page_has(asked: int, size: int) -> None:
    listing = Listing(KEY, "s", asked)
    assert (listing.size, listing.limit) == (size, size + 1)


def test_a_walk_through_a_listing_meets_each_row_once_and_ends_without_a_token() -> None:
    listing, rows, token = Listing(KEY, "s", 3), list(range(9)), ""
    pages = []
    while True:
        cursor = listing.cursor(token)
        first = 0 if cursor is None else int(cursor["row"]) + 1
        shown, token = listing.page(rows[first : first + listing.limit], lambda row: {"row": row})
        pages.append(list(shown))
        if not token:
            break
    assert pages == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert listing.page([], lambda row: {"row": row}) == ([], "")
