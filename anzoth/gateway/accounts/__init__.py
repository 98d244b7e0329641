"""People: who they are, how they prove it, and what they are in which tenant."""
