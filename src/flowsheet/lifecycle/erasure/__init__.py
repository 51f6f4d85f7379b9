"""Erase subjects from every place where a state folder keeps their records."""
