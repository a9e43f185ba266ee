from datetime import UTC, datetime, timedelta

OLD = "FROM app_log WHERE at < :before"


async def decide(ctx, *, threshold: int, age_days: int, **_) -> dict:
    """Count what could go; worth it from the threshold on."""
    before = datetime.now(UTC) - timedelta(days=age_days)
    found = await ctx.get_connector("default").scalar(f"SELECT count(*) {OLD}", {"before": before})
    ctx.log.info(f"{found} candidates, threshold {threshold}")
    return {"act": found >= threshold, "candidates": found, "before": before.isoformat()}


async def delete(ctx, *, dry_run: bool, batch: int, **_) -> dict:
    """Delete in batches, each one committed, so that nobody waits long for a lock."""
    decided = ctx.previous_step("decide").output
    if dry_run:
        ctx.log.info(f"would delete {decided['candidates']} rows")
        return {"deleted": 0, "skipped": True, "reason": "dry_run"}
    log, deleted = ctx.get_connector("default"), 0
    while not ctx.is_cancelled():
        result = await log.execute(
            f"DELETE FROM app_log WHERE id IN (SELECT id {OLD} LIMIT :batch)",
            {"before": decided["before"], "batch": batch},
        )
        deleted += result.rowcount
        ctx.progress(deleted, decided["candidates"])
        if result.rowcount < batch:
            break
    return {"deleted": deleted, "rows_affected": deleted}
