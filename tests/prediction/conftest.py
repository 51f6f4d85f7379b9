from __future__ import annotations

from tests.tracking.conftest import bundle, bundles, tables

__all__ = ["bundle", "bundles", "tables"]
