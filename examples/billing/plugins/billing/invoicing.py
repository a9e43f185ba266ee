"""What billing rebuilds at night."""

from nomaflow import StepContext


async def rebuild_vat(ctx: StepContext, *, period: str, **_) -> dict:
    """Recompute the VAT owed per country for one month, `period` as YYYY-MM."""
    billing = ctx.get_connector("billing")
    async with billing.transaction():
        await billing.execute("DELETE FROM vat WHERE period = :period", {"period": period})
        result = await billing.execute(
            """
            INSERT INTO vat (period, country, invoices, amount)
            SELECT :period, country, count(*), sum(round(net * vat_rate, 2))
            FROM invoices
            WHERE issued_on >= to_date(:period, 'YYYY-MM')
              AND issued_on < to_date(:period, 'YYYY-MM') + interval '1 month'
            GROUP BY country
            """,
            {"period": period},
        )
    ctx.log.info(f"VAT of {period}: {result.rowcount} countries")
    return {"period": period, "rows_affected": result.rowcount}
