"""What does Anzoth read from and write to the database?

The only modules that execute statements of `queries/`: one here for each file there. Each
function runs one statement on a connection that `pool` handed out; which rows it sees is decided
there and by the policies in the schema. Rows come back as plain dataclasses.
"""
