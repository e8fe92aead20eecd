"""The database's history: one revision per change, the same for PostgreSQL and SQLite."""
