"""Drift detection: are new records still like those that a model was trained on?"""
