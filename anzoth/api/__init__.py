"""The OpenAI surface, one file per resource: translates JSON to calls and back, decides nothing."""
