"""Responses: what may be predicted. One module each behind one contract; docs/responses.md.

A response turns the records of some stays into episodes. Episodes that are known by a time t, with
their onsets, and which of them have ended by t, depend only on facts with known_at <= t.
"""

from __future__ import annotations
