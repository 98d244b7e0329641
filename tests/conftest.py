"""Set before any test imports torch: an OpenMP thread that waits must sleep, not spin.

Beside any other busy process spinning costs the suite minutes (see scheduler/process.py).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
