"""A run as it happens, and the exit code that it earns."""

import time
from typing import TYPE_CHECKING

from blackstart.cli.output import STYLES, console, when
from protos.error import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from blackstart.client import Client
    from protos import blackstart_operator_pb2 as pb

_TONES = (("strand", "bold red"), ("fail", "red"), ("error", "red"), ("lost", "red"), ("abort", "yellow"))


class Followed:
    """Shows a run's events until it has ended."""

    def __init__(self, client: "Client", run_id: str, *, to_stderr: bool = False) -> None:
        self._client = client
        self._run_id = run_id
        self._console: Console = console(error=to_stderr)
        self._after = 0

    def watch(self) -> "pb.Run":
        """The run, once it has ended. Ctrl-C leaves the run alone."""
        begun_s = time.monotonic()
        with self._console.status("") as status:
            for event in self._client.watch(self._run_id, self._after):
                self._after = event.number
                status.update(f"run {self._run_id}, {time.monotonic() - begun_s:.0f} s")
                self._show(event)
        return self._client.show(self._run_id)[0]

    def watch_or_abort(self) -> tuple["pb.Run", bool]:
        """As `watch`, but Ctrl-C aborts the run and waits for its reverts; a second one leaves that to the controller.

        Returns:
            The run, and whether it was aborted from here.
        """
        try:
            return self.watch(), False
        except KeyboardInterrupt:
            self._console.print("aborting: reverting what is in force (Ctrl-C again leaves that to the controller)")
        try:
            self._client.abort(self._run_id, "interrupted at the command line")
            return self.watch(), True
        except KeyboardInterrupt:
            self._console.print(f"left: the controller goes on reverting; `blackstart runs watch {self._run_id}`")
            raise

    def _show(self, event: "pb.RunEvent") -> None:
        from rich.text import Text

        tone = next((style for word, style in _TONES if word in event.kind), "")
        clock = when(event.wall_ns)[11:]
        line = Text.assemble((clock, "dim"), "  ", (f"{event.kind:<20}", tone or "bold"), " ", (event.message, tone))
        self._console.print(line, soft_wrap=True)


def exit_of(run: "pb.Run", *, aborted: bool = False) -> Exit:
    """Stranded outweighs all; what was cut short proves nothing, unless it had deviated by then."""
    if run.stranded:
        return Exit.STRANDED
    if aborted:
        return Exit.INCONCLUSIVE
    if run.verdict == "deviated":
        return Exit.DEVIATED
    return Exit.HELD if run.verdict == "held" and run.outcome == "completed" else Exit.INCONCLUSIVE


def exit_alone(run: "pb.Run", *, aborted: bool = False) -> Exit:
    """As `exit_of`, for one run: refused before anything was injected is bad input, like one not accepted."""
    refused = run.outcome == "refused" and not run.stranded and not aborted
    return Exit.BAD_INPUT if refused else exit_of(run, aborted=aborted)


def summary(run: "pb.Run") -> None:
    """The last lines of a run."""
    from rich.text import Text

    word = "stranded" if run.stranded else run.verdict or run.state
    took = f" after {(run.ended_wall_ns - run.started_wall_ns) / 1e9:.1f} s" if run.ended_wall_ns else ""
    out = console()
    out.print(Text.assemble((word, STYLES.get(word, "bold")), f"  {run.title}{took}"), soft_wrap=True)
    if run.reason:
        out.print(Text(run.reason), soft_wrap=True)
