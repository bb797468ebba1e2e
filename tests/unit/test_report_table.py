"""The terminal's table, rendered by rich at the widths that people have."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from blackstart.cli import table
from controller.report.document_json import run_document, to_json
from protos.error import SpecError
from tests.unit.report_sample import certified, gameday, run


def shown(width: int, content: bytes | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    table.show(content or to_json(gameday(), "Quickstart gameday"), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 149, 150, 160, 220])
def test_no_figure_is_cut_at_any_usual_width(width: int):
    text = shown(width)
    drawn = text.split("\n✗ deviated  The system")[0]
    assert "…" not in drawn
    for word in ("kill-worker", "saturate-cpu", "1.41 s", "[1.39, 1.43]", "[21.28, 21.32]", "60 s met", "15 s missed",
                 "60 s unproven", "✓ held", "✗ deviated", "? inconclusive", "- not tested", "none"):  # fmt: skip
        assert word in drawn, word
    assert all(len(line) <= width for line in drawn.splitlines())


def test_why_is_told_under_the_table():
    text = shown(160)
    assert "The system deviated (2 held, 1 inconclusive, 1 deviated, 1 not tested)." in text
    assert "kill-origin (process.kill) on worker-1 has no proof of effect." in text
    assert "Not tested: network.partition needs root and nftables" in text


def test_the_residue_is_told_for_all_runs_and_what_is_left_for_each():
    assert "zero residue: certified in 4 of 4 runs with faults" in shown(160)
    left = run(certificates=(certified(ours=("+ tables: b_7",)),), verdict="inconclusive")
    text = shown(160, to_json([run(), left], "t"))
    assert "zero residue: certified in 1 of 2 runs with faults" in text
    assert "worker-1: + tables: b_7" in text


def test_markup_in_a_title_stays_text():
    text = shown(160, to_json([run("[red]x[/red] [/nonsense]", injections=(), recoveries=())], "[bold]t[/bold]"))
    assert "[red]x[/red] [/nonsense]" in text
    assert "[bold]t[/bold]" in text


def test_one_run_has_its_rows_and_reasons():
    console = Console(width=100, file=io.StringIO(), color_system=None)
    table.show_run(run_document(run()), console)
    assert isinstance(console.file, io.StringIO)
    assert "✓ held" in console.file.getvalue()
    assert "1 effect confirmed by receipt" in console.file.getvalue()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"runs": [{}], "overall": {}}'])
def test_what_is_no_report_is_refused(content: bytes):
    with pytest.raises(SpecError, match="no JSON report"):
        shown(80, content or b" ")
