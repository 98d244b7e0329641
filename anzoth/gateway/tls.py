"""Whom does this process trust over TLS?

Does not know: who is asked, or what.
"""

from __future__ import annotations

import functools
import ssl


@functools.cache
def trusted(trust_env: bool) -> ssl.SSLContext:
    """The system's authorities; with `trust_env`, those that SSL_CERT_FILE or SSL_CERT_DIR name.

    Read once: a client that reads them for itself holds the loop up for 40 to 70 ms.
    """
    import httpx2  # a gateway without backends and providers does without it

    return httpx2.create_ssl_context(trust_env=trust_env)
