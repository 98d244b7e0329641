"""One reader per kind of document: bytes or text in, blocks out (see `anzoth.ingest.kinds`)."""
