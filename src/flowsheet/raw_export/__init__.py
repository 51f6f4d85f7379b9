"""The simulated ward as raw tables of MIMIC-III, with the data errors of real ones."""
