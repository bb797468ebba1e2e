"""What faults have in common that happen once and leave nothing to undo."""

from __future__ import annotations

from typing import ClassVar

from agent.faults.base import Effect, Undo


class OnceFault:
    """A fault adds its plan, its act and its proof."""

    undo: ClassVar[Undo] = Undo.SELF_HEALING

    def prepare(self, effect: Effect) -> None:
        """Nothing has to live for it."""

    async def revert(self, effect: Effect) -> None:
        """Nothing to undo: the system under test recovers or does not."""

    def residue(self, effect: Effect) -> list[str]:
        del effect
        return []

    def remedy(self, effect: Effect) -> str:
        del effect
        return ""
