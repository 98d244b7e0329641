"""Tools that run on this side: whose they are, who may call them, and how a call is contained."""
