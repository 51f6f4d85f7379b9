"""Compare, promote, score with and monitor registered models."""
