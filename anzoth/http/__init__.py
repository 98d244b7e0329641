"""HTTP/1.1 on an asyncio Protocol: strict gate, h11 to parse, bytes to write. Knows no keys."""
