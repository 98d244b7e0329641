"""How does one of our processes come to listen on a Unix socket that is its user's alone?

Does not know: what is said over it.
"""

from __future__ import annotations

import os
import socket
import stat

_BACKLOG = 64


def listen(path: str) -> socket.socket:
    """A listening Unix socket at `path` that only this user can connect to.

    A socket left by a killed process is replaced; anything else at that path is not touched.
    Raises OSError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(f"{path} exists and is not a socket")
        if os.path.lexists(path):
            os.unlink(path)
        # The mode must hold from the first moment: a chmod after bind would leave a gap.
        previous_umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(previous_umask)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
