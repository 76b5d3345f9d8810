"""The page of a reproduction: complete, and of itself alone."""

import re
from html.parser import HTMLParser

import pytest
from made_up_reproduction import make_reproduction

from fsd.records.results import append_result
from fsd.report import gallery
from fsd.report.markdown import markdown
from fsd.report.page import overview, read_tables, write_report
from fsd.report.runs import read_reproduction
from fsd.report.table import FIRST_LINES
from fsd.system.errors import InputError


class Page(HTMLParser):
    """The tags of a page with their attributes; fails where tags are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page_text(tmp_path_factory):
    folder = make_reproduction(tmp_path_factory.mktemp("reproduction"), tasks=["RTE"])
    reproduction = read_reproduction(folder)
    with pytest.MonkeyPatch.context() as patched:  # the page does not look at the pictures
        patched.setattr(gallery, "save", lambda drawing, folder: (folder / f"{drawing.name}.png").write_bytes(b"picture"))
        drawings, left_out = gallery.draw_all(reproduction, folder)
    write_report(folder / "report.html", reproduction, drawings, left_out, read_tables(folder / "tables"))
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page(page_text):
    page = Page(page_text)
    images = page.all("img")
    assert len(images) == 6 and all(len(image["alt"]) > 40 for image in images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    links = [link["href"] for link in page.all("a")]
    assert [link for link in links if not link.startswith("#")] == ["https://doi.org/10.1016/j.eswa.2023.120980"]
    ids = [part["id"] for part in page.all("section")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids) and len(set(ids)) == len(ids)
    assert not page.all("script") and not page.all("link") and "url(" not in page_text and "@import" not in page_text
    assert len(re.findall("https?:", page_text)) == 1
    for words in ("prefers-color-scheme: dark", "width=device-width", "@media print"):
        assert words in page_text


def test_the_page_tells_what_was_run(page_text):
    for words in ("Student runs: 20. Methods: 10. Tasks: 1.", "Seeds: 1, 2.", "Failed cells: 1.", "held out for it",
                  "bert-base-uncased, 12 layers of 768: 81.00", "figure7 is left out"):
        assert words in page_text
    assert "models/" not in page_text  # the teacher's name, no path of this machine


def test_the_page_has_the_tables(page_text):
    assert page_text.index("<h2>Table 2</h2>") < page_text.index("<h2>Table 10</h2>") < page_text.index("<h2>Figure 3")
    assert '<td class="number"><strong>66.6 ± 1.0†</strong></td>' in page_text
    assert "wrong" not in page_text and "Notes of my own" not in page_text and "one, two" in page_text


def test_mixed_teachers_are_named(tmp_path):
    for seed, told in (("aa", False), ("bb", True)):
        row = {"task": "RTE", "method": "KD", "role": "student", "seed": 1, "acc": 0.5, "teacher_hash": seed, "run": seed}
        append_result(tmp_path / "results.csv", row)
        assert ("mixed teachers: aa, bb" in overview(read_reproduction(tmp_path))) == told


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "notes.md").write_bytes(b"\xff\xfe\x00")
    assert read_tables(tmp_path) == []
    (tmp_path / "table2.md").write_bytes(FIRST_LINES["md"].encode() + b"\xff\xfe\x00")
    with pytest.raises(InputError, match="table2.md"):
        read_tables(tmp_path)


def test_markdown():
    made = markdown("A `**x**` and **b** <i>\nmore\n\n| a | n |\n| --- | ---: |\n|  | **1** |\n\n- one\n  two\n- three", "name")
    assert "<p>A <code>**x**</code> and <strong>b</strong> &lt;i&gt; more</p>" in made
    assert '<th scope="col" class="number">n</th>' in made and '<td></td><td class="number"><strong>1</strong></td>' in made
    assert "<li>one two</li><li>three</li>" in made
