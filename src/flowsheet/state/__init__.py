"""Everything that a run leaves behind, and how it is written completely or not at all."""
