"""The small bundled model and everything that made it. A demonstration, not a product."""
