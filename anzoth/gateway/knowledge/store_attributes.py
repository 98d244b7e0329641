"""In which form do the attributes of a store's file stand in the database?

Does not know: which attributes a file may have, or who filters by them.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from anzoth.gateway.tenant_crypt import Label, TenantCipher

AttributeValue = str | float | bool
_KIND = "store_file.attributes"


def seal_attributes(
    cipher: TenantCipher,
    store_id: str,
    file_id: str,
    attributes: Mapping[str, AttributeValue] | None,
) -> bytes | None:
    """None: there are none."""
    if not attributes:
        return None
    return cipher.seal(orjson.dumps(dict(attributes)), _label(store_id, file_id))


def open_attributes(
    cipher: TenantCipher, store_id: str, file_id: str, sealed: bytes | None
) -> dict[str, AttributeValue]:
    """Raises CannotOpen."""
    if sealed is None:
        return {}
    return orjson.loads(cipher.open(sealed, _label(store_id, file_id)))


def _label(store_id: str, file_id: str) -> Label:
    return Label(_KIND, f"{store_id}/{file_id}")
