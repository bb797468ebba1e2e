"""What the agent's log must not tell."""

from __future__ import annotations

import json

import structlog

from agent import log


def test_a_traceback_shows_no_values_of_variables(capsys):
    before = structlog.get_config()
    try:
        log.configure("debug", "a")
        password = "not to be " + "told"
        try:
            raise ValueError(len(password))
        except ValueError:
            structlog.get_logger("x").exception("broke")
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    row = json.loads(capsys.readouterr().err)
    assert row["exception"][0]["exc_type"] == "ValueError"
    assert "not to be told" not in json.dumps(row)
