"""How many statements the connections of this process have run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


class Activity:
    """Tells one listener of every statement, in the thread that runs it; without one it costs a call a statement."""

    def __init__(self) -> None:
        self._told: Callable[[int], object] | None = None

    def tell(self, told: Callable[[int], object]) -> None:
        """Call `told` with how many statements have just begun, from now on."""
        self._told = told

    def watch(self, engine: Engine) -> None:
        """Follow what an engine runs."""
        event.listen(engine, "before_cursor_execute", self._executing)

    def scripted(self, statements: int) -> None:
        """Count statements that run past the engines."""
        if self._told is not None:
            self._told(statements)

    def _executing(self, *_: Any) -> None:
        if self._told is not None:
            self._told(1)
