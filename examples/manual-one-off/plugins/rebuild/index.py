from datetime import date


async def rebuild(ctx, *, day: date, full: bool) -> dict:
    """Stand-in for the work: says step by step how far it has come, and heeds a stop."""
    parts = ["words", "titles", "authors"] * (12 if full else 1)
    for done, part in enumerate(parts, start=1):
        if ctx.is_cancelled():
            break
        ctx.log.info(f"{part} of {'all days' if full else day}")
        ctx.progress(done, len(parts), unit="parts")
    return {"day": day, "full": full, "parts": len(parts)}
