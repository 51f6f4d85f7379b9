"""Experiment tracking and model registry in MLflow."""
