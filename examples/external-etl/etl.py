"""Loads permits that changed since the last success; runs anywhere, never in Nomaflow's workers.

NOMAFLOW_URL=http://nomaflow:8080 NOMAFLOW_TOKEN=... python etl.py SOURCE.csv TARGET.csv
"""

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

from nomaflow.client import Job

LONG_AGO = 0.0


def main(source: Path, target: Path) -> int:
    """Copy the rows that changed since the last successful run; answers how many."""
    job = Job("permits_to_open_data", source="permits", destination="open_data")
    since = job.most_recent() or LONG_AGO  # before start(), as in seed 004
    with job:
        changed = [row for row in _rows(source) if _changed_at(row) >= since]
        _merge(target, changed)
        job.records_processed = len(changed)
        job.message = f"upserted: {len(changed)}"
    return len(changed)


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _changed_at(row: dict[str, str]) -> float:
    return datetime.fromisoformat(row["modified"]).astimezone(UTC).timestamp()


def _merge(target: Path, changed: list[dict[str, str]]) -> None:
    rows = {row["id"]: row for row in _rows(target)} | {row["id"]: row for row in changed}
    with target.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, ["id", "status", "modified"])
        writer.writeheader()
        writer.writerows(rows.values())


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])), "rows")
