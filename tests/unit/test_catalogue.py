"""The generated catalogue is that of the faults there are."""

from __future__ import annotations

import json

from agent import catalogue


def test_the_catalogue_is_not_stale() -> None:
    rows = catalogue.entries()
    assert json.loads(catalogue.JSON_PATH.read_text(encoding="utf-8")) == rows, "run `make catalogue`"
    assert catalogue.PAGE_PATH.read_text(encoding="utf-8") == catalogue.page(rows), "run `make catalogue`"
