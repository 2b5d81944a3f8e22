"""Reports: one file, no network, safe with hostile text, and really drawn by a browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import altair as alt

from nonet.common.findings import Finding, Rival
from nonet.common.plots import chart_spec, findings_chart
from nonet.common.report import Cell, Chart, Section, Table, Text, findings_table, render_report, write_report
from tests.conftest import needs

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
FINDINGS = [
    Finding("logs", "speed", 30.0, "x", "higher", HOSTILE, (Rival("drain3", 1.0, "measured"),), 10.0),
    Finding("logs", "fga", 0.7, "", "higher", "real", (Rival("Drain", float("nan"), "published", "table 3"),), 0.8),
]
LINE = alt.Chart(alt.Data(values=[{"n": 1, "s": 2, "who": HOSTILE}, {"n": 2, "s": 4, "who": "b"}]))
LINE = LINE.mark_line(point=True).encode(x="n:Q", y="s:Q", color="who:N")


def sections() -> list[Section]:
    chart = findings_chart(FINDINGS)
    assert chart is not None
    table = Table(["template", "count"], [(Cell(HOSTILE, "code"), 3), ('a,"b"\n', 1234)], title=HOSTILE)
    blocks = [Text([HOSTILE]), table, findings_table(FINDINGS), Chart("Bars", chart), Chart("Line", LINE)]
    return [Section("logs", blocks, HOSTILE), Section("end", [])]


class Page(HTMLParser):
    """What a browser would load, and the elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[dict[str, str]] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.handlers += [name for name in values if name.startswith("on")]
        self.loads += [values[name] for name in ("src", "srcset", "poster", "data") if name in values]
        if tag == "link":
            self.loads.append(values["href"])
        if tag == "a":
            self.links.append(values)


def test_the_page_loads_nothing_and_runs_no_foreign_text() -> None:
    text = render_report("A report", sections())
    page = Page(text)
    assert page.loads == []
    assert page.handlers == []
    assert page.tags.count("img") == 0
    assert page.tags.count("script") == 3  # two charts' data and one copy of the drawing code
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_without_charts_is_small() -> None:
    assert len(render_report("t", [Section("s", [Text(["x"])])])) < 10_000


def test_tables_can_be_taken_as_csv_and_json() -> None:
    links = [link for link in Page(render_report("t", sections())).links if "download" in link]
    decoded = [base64.b64decode(link["href"].partition("base64,")[2]).decode() for link in links]
    assert list(csv.reader(io.StringIO(decoded[0]))) == [["template", "count"], [HOSTILE, "3"], ['a,"b"\n', "1234"]]
    assert json.loads(decoded[1]) == [{"template": HOSTILE, "count": 3}, {"template": 'a,"b"\n', "count": 1234}]
    assert [link["download"] for link in links[:2]] == ["table-1-2.csv", "table-1-2.json"]


def test_the_theme_stands_under_a_charts_own_settings() -> None:
    spec = chart_spec(LINE.configure_axis(gridOpacity=0.9))
    assert spec["config"]["axis"]["gridOpacity"] == 0.9
    assert spec["config"]["axis"]["labelFontSize"] == 12
    assert spec["config"]["background"] == "transparent"


def test_no_chart_without_rivals() -> None:
    assert findings_chart([Finding("r", "n", 1.0, "", "higher", "i")]) is None


def test_no_bar_for_a_rival_in_another_unit() -> None:
    same, other = Rival("same", 2.0, "measured"), Rival("other", 3315.0, "measured", unit="ms")
    assert findings_chart([Finding("r", "n", 1.0, "x", "higher", "i", (other,))]) is None
    chart = findings_chart([Finding("r", "n", 1.0, "x", "higher", "i", (same, other))])
    assert chart is not None
    text = json.dumps(chart_spec(chart))
    assert '"same"' in text and '"other"' not in text


def test_a_browser_without_network_draws_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    needs(browser is not None, "no chromium on this machine")
    write_report(tmp_path / "report.html", "A report", sections())
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [
        str(browser),
        *flags.split(),
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path}/profile",
    ]
    command += ["--virtual-time-budget=10000", "--dump-dom", (tmp_path / "report.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    drawn = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert len(re.findall(r'<svg[^>]*class="marks"', drawn)) == 2
    assert "could not be drawn" not in drawn
    assert re.search(r"<text[^>]*>drain3</text>", drawn)
