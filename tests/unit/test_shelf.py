"""Which outputs stay until they are looked at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")

from agent.workloads.encode.ladder import Made
from agent.workloads.encode.shelf import Output, Shelf
from agent.workloads.encode.source import Source


def put(shelf: Shelf, folder: Path, count: int, inputs: int = 2) -> None:
    for number in range(count):
        place = folder / f"job-{number}"
        place.mkdir()
        shelf.put(Output(str(place), Source(f"input-{number % inputs}", "made"), Made()))


def there(folder: Path) -> set[int]:
    return {int(one.name.removeprefix("job-")) for one in folder.iterdir()}


def test_only_a_sample_stays_and_the_first_of_each_input(tmp_path):
    shelf = Shelf(10, firsts=True, keep_all=False)
    put(shelf, tmp_path, 200)
    assert shelf.count == 200
    assert len(there(tmp_path)) == 12
    assert {0, 1} <= there(tmp_path)
    sample = {one.place for one in shelf.sample()}
    assert len(sample) == 10
    assert all(Path(place).exists() for place in sample)
    assert len({int(Path(place).name[4:]) // 50 for place in sample}) > 1, "not the first ones alone"
    shelf.clear()
    assert there(tmp_path) == set()


def test_none_is_looked_at_where_none_was_asked_for_and_firsts_stay_for_quality(tmp_path):
    shelf = Shelf(0, firsts=True, keep_all=False)
    put(shelf, tmp_path, 20)
    assert there(tmp_path) == {0, 1}
    assert shelf.sample() == []


def test_firsts_are_bounded_and_none_stays_where_quality_is_not_asked_for(tmp_path):
    shelf = Shelf(10, firsts=True, keep_all=False)
    put(shelf, tmp_path, 300, inputs=300)
    assert len(there(tmp_path)) == 210
    plain = tmp_path / "plain"
    plain.mkdir()
    shelf = Shelf(10, firsts=False, keep_all=False)
    put(shelf, plain, 50, inputs=50)
    assert len(there(plain)) == 10


def test_everything_stays_where_that_was_asked_for(tmp_path):
    shelf = Shelf(5, firsts=True, keep_all=True)
    put(shelf, tmp_path, 20)
    assert len(there(tmp_path)) == 20
    assert len(shelf.sample()) == 5


def test_any_output_is_as_likely_to_stay_as_another(tmp_path, monkeypatch):
    seen: Counter[int] = Counter()
    for seed in range(300):
        folder = tmp_path / str(seed)
        folder.mkdir()
        shelf = Shelf(4, firsts=True, keep_all=False)
        shelf._chance.seed(seed)
        put(shelf, folder, 21, inputs=1)
        seen.update(there(folder) - {0})
    assert min(seen[number] for number in range(1, 21)) > 30, "60 are expected of each"
    assert max(seen.values()) < 95
