"""From raw records to a validated cohort extract."""

from flowsheet.callable_module import make_callable

make_callable(__name__)  # fs.cohort(...)
