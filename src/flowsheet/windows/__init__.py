"""From the extract to model-ready sequences: the grid, the task, features, splits and scaling."""
