"""Knowledge bases: vector stores, how files get into them, and how they are searched."""
