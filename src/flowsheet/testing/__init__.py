"""Conformance suites for models, sources and metrics, to be subclassed in a project's own tests.

They need pytest and hypothesis: ``pip install flowsheet[testing]``.
"""
