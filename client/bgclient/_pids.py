"""Is the process still there that left something behind?"""

from __future__ import annotations

import os


def runs(pid: int) -> bool:
    """True while a process of that number exists on this machine; also where that is unknown."""
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
