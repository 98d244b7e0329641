"""What a tenant manages of itself: projects, keys, service accounts and limits."""
