"""The model package, and the requests that are put to it; independent of MLflow and HTTP."""
