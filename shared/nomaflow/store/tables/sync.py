"""How far syncs have come, and the batches that failed, kept until they are retried."""

from __future__ import annotations
