from __future__ import annotations

import pytest

from flowsheet.cli import main


@pytest.mark.parametrize("arguments", [[], ["12"], ["p000012"], ["12", "--in", "nowhere"]])
def test_what_cannot_be_erased_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["erase", *arguments])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
