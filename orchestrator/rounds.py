"""Round after round, until nothing is left to do: how a controller is driven, and a fleet of them."""

import time
import typing
from collections.abc import Callable

from orchestrator.errors import CommandError


class Detached(KeyboardInterrupt):
    """All has begun that can begin now, and nobody wants to watch it. `waiting`: submissions that have not."""

    def __init__(self, waiting: int = 0) -> None:
        super().__init__()
        self.waiting = waiting


class Driven(typing.Protocol):
    crashed: bool  # by an error that is nobody's answer: what it holds stays for whoever is started in its place

    def round(self) -> bool:
        """One look at everything; True once there is nothing left to do."""

    def interrupt(self) -> None: ...
    def close(self) -> None: ...


def drive(driven: Driven, watch: Callable[[], None], pause: float, then: Callable[[], None] = lambda: None) -> None:
    """`watch` is called after each round; it shows, it does not decide. `then`, where nothing is left to do. Ctrl-C
    interrupts; at the end all is closed."""
    try:
        while not driven.round():
            watch()
            time.sleep(pause)
        watch()
        then()
    except KeyboardInterrupt:
        driven.interrupt()
        raise
    except Exception as error:
        driven.crashed = not isinstance(error, CommandError)
        raise
    finally:
        driven.close()
