"""SQLite files over aiosqlite."""
