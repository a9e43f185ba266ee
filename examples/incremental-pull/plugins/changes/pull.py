from datetime import UTC, datetime

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
UPSERT = """
INSERT INTO changed_items (id, name, updated_at) VALUES (:id, :name, :updated_at)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
"""


async def pull_changes(ctx, *, api: str) -> dict:
    """Pull what changed since the start of the last pull: rows that change meanwhile come again."""
    began = datetime.now(UTC)
    target = ctx.get_connector("default")
    last = await target.scalar("SELECT last_sync FROM sync_state WHERE name = 'changes'")
    since = (last or FIRST).isoformat(timespec="seconds").replace("+00:00", "Z")
    answer = await ctx.http.get(f"{api}/items", params={"since": since})
    for item in answer["data"]:
        await target.execute(UPSERT, item)
    ctx.log.info(f"{len(answer['data'])} items changed since {since}")
    return {"since": since, "items": len(answer["data"]), "began": began}
