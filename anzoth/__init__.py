"""Serves models to many customers: gateway, API, policy, database, CLI. Never imports torch."""
