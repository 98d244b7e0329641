"""Policy between the API and the engine: authentication, limits, ledger, generation, engine client."""
