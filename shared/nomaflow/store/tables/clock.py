"""What closes the clocks: calendars, blackouts and the switch of the whole scheduler."""

from __future__ import annotations
