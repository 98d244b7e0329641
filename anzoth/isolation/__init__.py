"""Does an installation keep its tenants apart? Asked of a running one, from outside."""
