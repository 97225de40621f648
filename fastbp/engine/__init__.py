"""Plans, and the two interpreters that run them."""
