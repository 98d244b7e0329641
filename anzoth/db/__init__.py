"""Postgres: the embedded server, the pool behind the tenant wall, migrations and named queries."""
