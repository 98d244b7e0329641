"""The subcommands of `anzoth`, one module each; `anzoth.cli` has the table of them."""
