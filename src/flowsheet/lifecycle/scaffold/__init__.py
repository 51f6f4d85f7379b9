"""Files of a user's own project: ``flowsheet init`` and ``flowsheet new``."""
