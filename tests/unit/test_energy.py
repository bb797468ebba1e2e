from __future__ import annotations

import pytest

from agent.system.energy import Meter


def packages(root, *used, most=1_000_000):
    for number, microjoules in enumerate(used):
        folder = root / f"intel-rapl:{number}"
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(f"package-{number}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")
        part = root / f"intel-rapl:{number}:0"  # its cores: within it, not beside it
        part.mkdir(exist_ok=True)
        (part / "energy_uj").write_text("999999\n")
        (part / "max_energy_range_uj").write_text(f"{most}\n")


def test_packages_are_added_up_and_a_counter_that_begins_anew_is_no_loss(tmp_path):
    packages(tmp_path, 100_000, 900_000)
    meter = Meter(tmp_path)
    assert meter.missing == ""
    packages(tmp_path, 350_000, 950_000)
    assert meter.joules() == pytest.approx(0.30)
    packages(tmp_path, 400_000, 50_000)
    assert meter.joules() == pytest.approx(0.30 + 0.05 + 0.10)


def test_the_platform_holds_its_packages_and_is_not_added_to_them(tmp_path):
    packages(tmp_path, 0, 0)
    (tmp_path / "intel-rapl:1" / "name").write_text("psys\n")
    meter = Meter(tmp_path)
    packages(tmp_path, 100_000, 160_000)
    assert meter.joules() == pytest.approx(0.1)


def test_a_node_without_a_meter_says_so(tmp_path):
    meter = Meter(tmp_path)
    assert meter.missing == "no energy meter"
    assert meter.joules() == 0.0


def test_a_meter_that_goes_away_says_so(tmp_path):
    packages(tmp_path, 100_000)
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    meter.joules()
    assert "cannot be read any more" in meter.missing
