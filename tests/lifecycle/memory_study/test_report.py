"""The memory section: names are escaped, and colours follow those of the page."""

from __future__ import annotations

import re

from flowsheet.lifecycle.memory_study.figures import make_figures
from flowsheet.lifecycle.memory_study.report import render_memory_section
from tests.lifecycle.memory_study.helpers import MARKUP_NAME, make_memory_report


def test_names_are_escaped_and_nothing_is_loaded():
    html = str(render_memory_section(make_memory_report()))
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;rnn" in html
    assert set(re.findall("<script[^>]*>", html)) == {
        '<script type="application/json" class="chart-data">'
    }


def test_the_table_compares_all_models_with_the_oracle():
    html = str(render_memory_section(make_memory_report()))
    table = html[html.index("Comparison with the oracle") :]
    assert table.index("oracle</th>") < table.index("lstm</th>") < table.index("arx</th>")
    assert "0.2500" in table
    assert "r 0.2300 to 0.2700" in table
    assert "Share of the oracle bound" in table


def test_one_replicate_has_no_bands():
    html = str(render_memory_section(make_memory_report(1)))
    effect = next(f for f in make_figures(make_memory_report(1)) if f.name == "effect_insulin")
    assert "'area'" not in str(effect.chart.to_dict())
    assert "one replicate" in html


def legend_entry(css: str, name: str) -> str:
    return f'<span class="key {css}" aria-hidden="true"></span>{name}'


def test_a_model_has_the_colour_of_its_rank_on_the_page():
    report = make_memory_report()
    lstm_first = str(render_memory_section(report, ["lstm", MARKUP_NAME]))
    lstm_second = str(render_memory_section(report, [MARKUP_NAME, "lstm"]))
    assert legend_entry("m0", "lstm") in lstm_first
    assert legend_entry("m1", "lstm") in lstm_second
