"""`python -m nomaflow_worker`."""

from __future__ import annotations

import sys

from nomaflow_worker.main import main

sys.exit(main())
