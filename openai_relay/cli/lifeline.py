"""
End this process when whoever started it is gone, however it went.

The parent keeps the other end of our standard input open and never writes to
it; when the parent ends, even by SIGKILL, the kernel closes it and we notice.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

#: How long an orderly end may take before there is none.
GRACE: Final = 10.0


def end_with_stdin() -> None:
    """Watch standard input from now on; its end is answered like SIGTERM."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # closed from the start: nobody holds the other end
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(1)
