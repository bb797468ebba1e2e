"""GPU gauges beside an encoding, on a stand-in library: it shows what is asked and told, nothing of a real GPU."""

from __future__ import annotations

import math
import time

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")

from agent.system.gpu_gauge import Watch, reasons
from protos.error import FaultError
from tests.chaos import standin
from tests.chaos.subject import gpu as subjects
from tests.contract.test_encode_workload import Rig

pytestmark = pytest.mark.skipif(bool(standin.missing()), reason=standin.missing() or "can run")


def test_each_gauge_is_read_and_one_that_is_not_there_is_no_zero():
    with subjects.gpu() as uuid:
        watch = Watch()
        try:
            assert watch.names == [(uuid, "stand-in GPU")]
            (first,) = watch.read()
            time.sleep(0.05)
            (second,) = watch.read()
        finally:
            watch.close()
    assert (first.sm, first.encoder, first.power_w, first.clock_mhz) == pytest.approx((0.37, 0.55, 50.0, 2040))
    assert math.isnan(first.decoder), "not supported"
    assert second.energy_j - first.energy_j == pytest.approx(2.5, rel=0.5), "50 W"
    assert reasons(first.slower) == [], "idle is not held down"
    assert reasons(0x4 | 0x40) == ["power cap", "hardware thermal"]


def test_without_a_driver_there_is_nothing_to_watch():
    with pytest.raises(FaultError):
        Watch()


@pytest.mark.alone
def test_an_encoding_tells_what_the_gpu_did_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setenv("BLACKSTART_STANDIN_XID", "79")
    with subjects.gpu():
        done = Rig(tmp_path).run(closed={"jobs": [1], "duration_s": 3})
    (level,) = done.detail["levels"]
    (gpu,) = level["gpus"]
    assert gpu["samples"] >= 2
    assert gpu["hz"] == pytest.approx(5, abs=1)
    assert gpu["energy_j"] == pytest.approx(50 * (level["to_ns"] - level["from_ns"]) / 1e9, rel=0.5)
    assert "decoder" not in gpu
    assert done.detail["xids"] == [79]
    figures = {figure.name: figure for figure in done.figures}
    assert figures["1 at a time: GPU 0 encoder utilisation"].value == pytest.approx(0.55)
    assert figures["1 at a time: GPU 0 energy of a video"].unit == "J"
    assert "1 at a time: GPU 0 decoder utilisation" not in figures
    assert "Xid 79" in done.summary
    assert "no GPU" not in done.summary


@pytest.mark.alone
def test_without_a_gpu_every_figure_of_one_is_not_available(tmp_path):
    done = Rig(tmp_path).run(closed={"jobs": [1], "count": 2})
    assert "GPU figures: not available: no GPU" in done.summary
    assert not any("GPU" in figure.name for figure in done.figures)
    rows = done.detail["timeline"]
    assert len(rows["at_ns"]) == len(rows["pictures_s"]) == len(rows["cpu_busy"])
    assert max(rows["pictures_s"]) > 0
    assert "gpu_sm" not in rows
