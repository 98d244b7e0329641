"""HTTP/1.1 on an asyncio Protocol: a strict gate, h11 for parsing, bytes for writing. Knows no JSON and no keys."""
