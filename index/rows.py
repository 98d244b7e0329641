"""How do sets of rows pass between numpy and pyroaring?

A segment's documents are numbered from 0; these numbers are its rows.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

Rows = NDArray[np.uint32]


def as_rows(bitmap: BitMap) -> Rows:
    """The members in rising order."""
    return np.frombuffer(bitmap.to_array(), np.uint32)


def as_bitmap(rows: Rows) -> BitMap:
    # 2.8 ms for 50,000 rows; from the numpy array itself, number by number, 14 ms.
    return BitMap(array("I", rows.tobytes()))
