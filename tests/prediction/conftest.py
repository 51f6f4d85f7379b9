from __future__ import annotations

from tests.model_packages import model_package, tables

__all__ = ["model_package", "tables"]
