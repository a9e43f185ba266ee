"""When jobs fire: cron and its words, calendars, forecasts, dependencies. Pure."""
