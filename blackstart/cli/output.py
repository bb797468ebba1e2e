"""How commands speak: tables for people, JSON for machines, progress on stderr.

Invariant: with `--json`, stdout carries one JSON document and nothing else.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

STYLES = {
    "held": "green", "inconclusive": "yellow", "deviated": "red", "stranded": "bold red", "running": "cyan",
    "met": "green", "missed": "red", "ok": "green", "yes": "green", "no": "red",
}  # fmt: skip


_NAME_MAX = 40  # of a first column, which holds what other commands take
_WORD_MAX = 14


def console(*, error: bool = False) -> "Console":
    """stdout, or stderr; colours only on a terminal."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=False)


def print_json(document: object) -> None:
    """The one document of a command under `--json`."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """A table, or the sentence *empty*. Cells that are words of ours are coloured."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    texts = [[str(cell) for cell in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(columns):
        cells = [row[index] for row in texts]
        words = cells if index == 0 else [word for cell in cells for word in cell.split()]
        # Names can be copied whole, and no word is cut: what is short of room wraps.
        least = min(_NAME_MAX if index == 0 else _WORD_MAX, max(map(len, [*words, *name.split()]), default=1))
        table.add_column(name, min_width=least, overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    if table.row_count:
        out = console()
        out.print(table, width=None if out.is_terminal else 200, crop=False)
    else:
        print(empty)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Says *what* is being waited for, on a terminal; silent elsewhere. Gives what says more of it."""
    error = console(error=True)
    if not error.is_terminal:
        yield lambda _text: None
        return
    with error.status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")


def when(wall_ns: int) -> str:
    """A moment, in local time; a dash for none."""
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if wall_ns else "-"


def age(wall_ns: int) -> str:
    """How long ago, roughly."""
    if not wall_ns:
        return "never"
    seconds = max(0, int(time.time() - wall_ns / 1e9))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def document(message: "Message") -> dict[str, Any]:
    """JSON form of a message: field names as in the .proto file, `x_json` decoded as `x`."""
    return {
        field.name.removesuffix("_json"): _value(getattr(message, field.name), field.name)
        for field in message.DESCRIPTOR.fields
    }


def _value(value: Any, name: str) -> Any:
    if isinstance(value, bytes):
        if name.endswith("_json"):
            return json.loads(value) if value else None
        return value.decode(errors="replace")
    if isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "DESCRIPTOR"):
        return document(value)
    if hasattr(value, "items"):
        return dict(value.items())
    return [_value(item, name) for item in value]
