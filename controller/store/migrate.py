"""Brings a database up to the newest schema."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from protos.error import SpecError

SCRIPTS: Final = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, where: str) -> None:
    """Runs what is missing within the connection's transaction; SpecError if *where* is newer than this program."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        newest = ScriptDirectory.from_config(config).get_current_head()
        raise SpecError(
            f"{where}: its schema is not known to this version, whose newest is {newest}: upgrade Blackstart, or name"
            " another store"
        ) from error
