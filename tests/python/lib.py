"""What the scripts share: how they end."""

import os
import sys
import threading
from collections.abc import Callable


def run(main: Callable[[], None], deadline_s: float | None = None) -> None:
    """Runs `main` and ends the process: with 1 and a line on stderr if it fails or is not done in time."""
    if deadline_s is not None:
        late = threading.Timer(deadline_s, lambda: end(f"not done after {deadline_s} s"))
        late.daemon = True
        late.start()
    try:
        main()
    except BaseException as error:  # whatever it is, and be it an exit
        end(repr(error))
    end()


def end(failure: str | None = None) -> None:
    """The SDK's own threads would keep the process alive, so it does not wait for them."""
    if failure is not None:
        print(f"failed: {failure}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(0 if failure is None else 1)
