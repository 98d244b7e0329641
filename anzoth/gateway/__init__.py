"""Policy between API and engine: authentication, limits, ledger, generation, engine client."""
