"""The memory section: names are escaped, and colours follow those of the page."""

from __future__ import annotations

from flowsheet.lifecycle.memory_study.report import render_memory_section
from tests.lifecycle.memory_study.helpers import MARKUP_NAME, make_memory_report


def test_names_are_escaped_and_nothing_is_loaded():
    html = str(render_memory_section(make_memory_report()))
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;rnn" in html
    assert "<script" not in html
    assert "http" not in html


def test_the_table_compares_all_models_with_the_oracle():
    html = str(render_memory_section(make_memory_report()))
    table = html[html.index("Comparison with the oracle") :]
    assert table.index("oracle</th>") < table.index("lstm</th>") < table.index("arx</th>")
    assert "0.2500" in table
    assert "r 0.2300 to 0.2700" in table
    assert "Share of the oracle bound" in table


def test_one_replicate_has_no_bands():
    html = str(render_memory_section(make_memory_report(1)))
    assert "band" not in html.split("</style>")[1]
    assert "one replicate" in html


def legend_entry(css: str, name: str) -> str:
    return (
        f'<svg class="key {css}" viewBox="0 0 22 8" aria-hidden="true">'
        f'<path d="M0 4L22 4" class="curve {css}"/></svg>{name}'
    )


def test_a_model_has_the_colour_of_its_rank_on_the_page():
    report = make_memory_report()
    lstm_first = str(render_memory_section(report, ["lstm", MARKUP_NAME]))
    lstm_second = str(render_memory_section(report, [MARKUP_NAME, "lstm"]))
    assert legend_entry("m0", "lstm") in lstm_first
    assert legend_entry("m1", "lstm") in lstm_second
