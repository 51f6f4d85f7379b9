"""The TRIPOD+AI checklist of an experiment, filled from its record."""
