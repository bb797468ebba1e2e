"""Structured logs: one JSON object a line on standard error.

Invariant: a traceback shows no values of variables, since keys and passwords of services are among them.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, agent_id: str) -> None:
    """Sends every logger of this process to standard error, with the agent's id in each line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper(), logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(agent=agent_id)
