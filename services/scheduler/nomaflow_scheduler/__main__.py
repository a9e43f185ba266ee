"""`python -m nomaflow_scheduler`."""

from __future__ import annotations

import sys

from nomaflow_scheduler.main import main

sys.exit(main())
