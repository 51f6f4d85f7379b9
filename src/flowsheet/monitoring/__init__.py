"""What a model was trained on, and whether the records that it meets now are still like it."""
