"""Names from data are text in a model card: neither HTML nor links nor emphasis."""

from __future__ import annotations

import pytest

from flowsheet.lifecycle.model_card.template import escape_markdown, markdown_table


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("[c](javascript:x)", r"[c\](javascript:x)"),
        ("![c](http://x)", r"![c\](http://x)"),
        ("[c][d]", r"[c\][d]"),
        ("a|b", "a/b"),
        ("a\n# b", "a # b"),
        ("`x`", r"\`x\`"),
        ("**x**", r"\*\*x\*\*"),
        ("_x_ resp_rate", r"\_x\_ resp_rate"),
        ("\\", r"\\"),
        (r"\[c\](x)", r"\\[c\\\](x)"),
        ("0.8 [0.7, 0.9]", "0.8 [0.7, 0.9]"),
    ],
)
def test_a_name_is_shown_as_it_is(name, cell):
    assert markdown_table(["group"], [[name]]).splitlines()[-1] == f"| {cell} |"


def test_text_is_escaped_once():
    once = escape_markdown("<b>")
    assert escape_markdown(once) == once == "&lt;b>"
