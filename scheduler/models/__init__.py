"""Model families: one decoder, a table of what differs."""
