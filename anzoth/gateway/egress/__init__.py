"""The one way out for what tenants name: hosts, addresses, bytes and time are bounded here."""
