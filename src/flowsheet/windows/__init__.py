"""From the extract to model-ready sequences: the grid, the task, features, splits and scaling."""

from flowsheet.callable_module import make_callable

make_callable(__name__)  # fs.windows(...)
