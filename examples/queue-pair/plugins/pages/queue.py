SIZE = 10
NEXT = """
SELECT page FROM page_queue WHERE status = 'pending'
ORDER BY page LIMIT 1 FOR UPDATE SKIP LOCKED
"""
DONE = """
UPDATE page_queue SET status = 'done', fetched_by = :run, fetched_at = now() WHERE page = :page
"""
ITEM = """
INSERT INTO items (id, name, fetched_by) VALUES (:id, :name, :run)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, fetched_by = excluded.fetched_by
"""


async def list_pages(ctx, *, api: str) -> dict:
    """Note every page once; a page that is noted already stays as it is."""
    total = (await ctx.http.get(f"{api}/items", params={"page": 1, "size": 1}))["total"]
    pages = -(-total // SIZE)
    result = await ctx.get_connector("default").execute(
        "INSERT INTO page_queue (page) SELECT generate_series(1, :pages::int) "
        "ON CONFLICT (page) DO NOTHING",
        {"pages": pages},
    )
    return {"pages": pages, "new": result.rowcount}


async def fetch_pages(ctx, *, api: str, most: int) -> dict:
    """Fetch pages that wait, each in a transaction that holds its row: no other run takes it.

    When the run fails or dies in the middle, the page waits again.
    """
    database, fetched = ctx.get_connector("default"), []
    while len(fetched) < most and not ctx.is_cancelled():
        async with database.transaction():
            page = await database.scalar(NEXT)
            if page is None:
                break
            answer = await ctx.http.get(f"{api}/items", params={"page": page, "size": SIZE})
            for item in answer["data"]:
                values = {"id": item["id"], "name": item["name"], "run": ctx.run_id}
                await database.execute(ITEM, values)
            await database.execute(DONE, {"page": page, "run": ctx.run_id})
        fetched.append(page)
        ctx.progress(len(fetched), unit="pages")
    return {"pages": fetched}
