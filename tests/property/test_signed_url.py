"""Urls in the one form that is signed and sent."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from agent.probes.signature import encoded

NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=40)


@given(NAMES)
def test_a_name_is_the_same_name_however_it_was_written(name):
    base = "https://store:9000/bucket/"
    strict = encoded(base + quote(name, safe=""))
    assert unquote_to_bytes(urlsplit(strict).path) == f"/bucket/{name}".encode()
    assert encoded(base + quote(name, safe="/!$&'()*+,;=:@~")) == strict
    assert encoded(strict) == strict, "nothing is encoded twice"


@given(VISIBLE, VISIBLE)
def test_only_unreserved_characters_are_left(path, query):
    url = encoded(f"http://store/{path}?{query}")
    place, _, rest = url.removeprefix("http://store").partition("?")
    assert re.fullmatch(r"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})*", place)
    assert re.fullmatch(r"(?:[A-Za-z0-9._~&=-]|%[0-9A-F]{2})*", rest)
    assert encoded(url) == url


def test_a_bare_origin_has_a_path():
    assert encoded("http://store:80") == "http://store:80/"
