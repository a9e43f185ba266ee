import csv
from pathlib import Path

INSERT = """
INSERT INTO measurements (file, line, device, value)
VALUES (:file, :line, :device, :value)
ON CONFLICT (file, line) DO NOTHING
"""


async def load_files(ctx, *, inbox: Path, archive: Path) -> dict:
    """Load each file whole or not at all, then move it away.

    Should the worker die between the two, the next run loads it again and changes nothing.
    """
    database, files, rows = ctx.get_connector("default"), [], 0
    for path in sorted(inbox.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as text:
            lines = list(csv.DictReader(text))
        if ctx.dry_run:
            ctx.log.info(f"would load {len(lines)} rows of {path.name}")
            continue
        async with database.transaction():
            for number, line in enumerate(lines, start=1):
                values = {"file": path.name, "line": number}
                values |= {"device": line["device"], "value": line["value"]}
                rows += (await database.execute(INSERT, values)).rowcount
        path.rename(archive / path.name)
        files.append(path.name)
        ctx.log.info(f"{path.name}: {len(lines)} rows")
    return {"files": files, "rows_affected": rows}
