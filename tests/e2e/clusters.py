"""``python -m tests.e2e.clusters ARGUMENTS``: the command line with small shards and pieces.

They are planned by the process that is started here; workers build whatever shards and pieces they
are given.
"""

from __future__ import annotations

if __name__ == "__main__":
    from flowsheet.cli import main
    from flowsheet.lifecycle.experiment import (
        extract_batches,
        ingest_groups,
        resamples,
        window_shards,
    )

    ingest_groups.MIN_GROUPS = 3
    window_shards.ROWS_PER_SHARD = 2_000
    resamples.MIN_CELLS = 1
    extract_batches.STAYS_PER_BATCH = 20
    main()
