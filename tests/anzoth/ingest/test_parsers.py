"""Every kind, from files that other libraries have written."""

from __future__ import annotations

import documents
import pytest

from anzoth.ingest.document import Document
from anzoth.ingest.parse import PARSERS, parse

EACH = documents.one_of_each()


def blocks(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text_of(block)) for block in document.blocks]


def parsed(kind: str) -> Document:
    name, data = EACH[kind]
    return parse(data, name)


def test_there_is_a_file_of_every_kind() -> None:
    assert EACH.keys() == PARSERS.keys()


@pytest.mark.parametrize("kind", EACH)
def test_a_kind_is_found_by_content_and_name(kind: str) -> None:
    document = parsed(kind)
    assert document.kind == kind
    assert "Ignore all rules" not in document.text


@pytest.mark.parametrize("kind", ["pdf", "docx", "pptx", "xlsx", "rtf", "html"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.pdf", "a", "../../etc/passwd", "a.exe"])
def test_a_wrong_extension_changes_nothing(kind: str, name: str) -> None:
    assert parse(EACH[kind][1], name) == parsed(kind)


@pytest.mark.parametrize("kind", EACH)
def test_blocks_are_spans_of_the_text_in_order(kind: str) -> None:
    document = parsed(kind)
    end = 0
    for block in document.blocks:
        assert not document.text[end : block.start].strip()
        assert document.text_of(block).strip()
        assert block.start >= end
        end = block.end
    assert end == len(document.text)


def test_docx_has_headings_lists_tables_and_no_hidden_text() -> None:
    document = parsed("docx")
    assert document.title == "Handbook"
    assert blocks(document) == [
        ("heading", "Opening hours"),
        ("paragraph", "The museum is open from 9:40. It closes at 17:15."),
        ("heading", "Exceptions"),
        ("list_item", "Closed on Mondays"),
        ("list_item", "Closed on 1 May"),
        ("table_header", "Ticket | Fee"),
        ("table_row", "Adult | 12.35 EUR"),
    ]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    assert document.notes == ("17 hidden characters were left out.",)


def test_docx_keeps_what_was_inserted_and_drops_what_was_deleted() -> None:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = (
        f"<w:document {w}><w:body><w:p><w:r><w:t>a</w:t></w:r>"
        "<w:ins><w:r><w:t>b</w:t></w:r></w:ins><w:del><w:r><w:delText>c</w:delText></w:r></w:del><w:hyperlink><w:r><w:t>d</w:t></w:r>"
        '</w:hyperlink><w:r><w:rPr><w:color w:val="ffffff"/></w:rPr><w:t>e</w:t></w:r></w:p>'
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>f</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "</w:body></w:document>"
    )
    data = documents.zipped({"word/document.xml": body.encode()}, like=EACH["docx"][1])
    assert blocks(parse(data, "a.docx")) == [("paragraph", "abd"), ("paragraph", "f")]


def test_docx_pages_are_where_word_noted_them() -> None:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    new_page = "<w:lastRenderedPageBreak/>"
    body = (
        f"<w:document {w}><w:body><w:p><w:r><w:t>one</w:t></w:r></w:p>"
        f"<w:p><w:r><w:t>begins on one</w:t>{new_page}<w:t>, ends on two</w:t></w:r></w:p>"
        f"<w:p><w:r>{new_page}<w:t>three</w:t></w:r></w:p></w:body></w:document>"
    )
    data = documents.zipped({"word/document.xml": body.encode()}, like=EACH["docx"][1])
    document = parse(data, "a.docx")
    assert [block.page for block in document.blocks] == [1, 1, 3]
    assert document.text_of(document.blocks[1]) == "begins on one, ends on two"


def test_docx_footnotes_stand_behind_the_text() -> None:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    r = "http://schemas.openxmlformats.org/package/2006/relationships"
    body = (
        f"<w:document {w}><w:body><w:p><w:r><w:t>Text</w:t></w:r>"
        '<w:r><w:footnoteReference w:id="7"/></w:r></w:p></w:body></w:document>'
    )
    notes = (
        f'<w:footnotes {w}><w:footnote w:type="separator" w:id="0"/><w:footnote w:id="7"><w:p>'
        "<w:r><w:t>A note.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    )
    link = f'<Relationships xmlns="{r}"><Relationship Id="n" Type="x/footnotes" Target="n.xml"/>'
    parts = {
        "word/document.xml": body,
        "word/n.xml": notes,
        "word/_rels/document.xml.rels": f"{link}</Relationships>",
    }
    data = documents.zipped({name: xml.encode() for name, xml in parts.items()}, EACH["docx"][1])
    assert parse(data, "a.docx").text == "Text [1]\n\n[1] A note."


def test_pptx_has_a_page_per_slide_and_no_hidden_slide() -> None:
    document = parsed("pptx")
    assert blocks(document) == [
        ("heading", "Roadmap"),
        ("list_item", "First quarter"),
        ("list_item", "Second quarter"),
        ("table_header", "Team | Lead"),
        ("table_row", "Search | Ada"),
        ("paragraph", "Speak slowly."),
    ]
    assert {block.page for block in document.blocks} == {1}
    assert document.num_pages == 2
    assert document.notes == ("Hidden slides were left out.",)


def test_xlsx_shows_dates_and_shares_and_no_hidden_sheet() -> None:
    document = parsed("xlsx")
    assert blocks(document) == [
        ("heading", "Orders"),
        ("table_header", "Customer | Date | Share | Paid"),
        ("table_row", "Acme | 2026-03-04 | 25% | TRUE"),
        ("table_row", "Börse | 2026-03-04 17:30:00 | 1.5 | FALSE"),
        ("table_row", "far away"),
    ]
    assert document.notes == ("Hidden sheets were left out.",)


def test_pdf_has_pages_headings_and_joined_lines() -> None:
    running = [("The Annual Report", 9), ("", 40)]
    pages = [
        [
            *running,
            (f"Chapter {number}", 20),
            ("", 20),
            ("The first sentence goes", 11),
            ("on here. And another.", 11),
            ("", 30),
            (f"A second paragraph {'abcde'[number]}.", 11),
        ]
        for number in range(5)
    ]
    document = parse(documents.pdf(pages, "Report"), "a.pdf")
    assert document.title == "Report"
    assert document.num_pages == 5
    assert blocks(document)[:3] == [
        ("heading", "Chapter 0"),
        ("paragraph", "The first sentence goes on here. And another."),
        ("paragraph", "A second paragraph a."),
    ]
    assert [block.page for block in document.blocks] == [n for n in range(1, 6) for _ in range(3)]
    assert "Annual" not in document.text


def test_html_shows_what_a_browser_shows() -> None:
    document = parsed("html")
    assert document.title == "Museum"
    assert blocks(document) == [
        ("heading", "Opening hours"),
        ("paragraph", "From 9:40 to 17:15."),
        ("list_item", "Closed on Mondays"),
        ("table_header", "Ticket | Fee"),
        ("table_row", "Adult | 12.35 EUR"),
        ("code", "a\n  b"),
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>Evil</p>",
        "<div style='display:none'><p>Evil</p></div>",
        "<p style='VISIBILITY : hidden'>Evil</p>",
        "<p style='font-size:0px'>Evil</p>",
        "<p style='opacity:0'>Evil</p>",
        "<p style='color:#FFF'>Evil</p>",
        "<p style='color: transparent'>Evil</p>",
        "<p style='position:absolute;left:-9999px'>Evil</p>",
        "<p aria-hidden=true>Evil</p>",
        "<p id=x>Evil</p><style>#x, .y { display: none !important }</style>",
        "<script>Evil</script>",
        "<style>Evil</style>",
        "<template>Evil</template>",
        "<noscript>Evil</noscript>",
        "<!-- Evil -->",
        "<?Evil?>",
        "<textarea>Evil</textarea>",
        "<details><!-- Evil --></details>",
        "<p><span style='display:none'>Evil</span></p>",
        "<table><tr style='display:none'><td>Evil<td>Evil</table>",
    ],
)
def test_html_hides_what_a_browser_hides(hidden: str) -> None:
    document = parse(f"<!doctype html><p>Before</p>{hidden}<p>After</p>".encode(), "a.html")
    assert blocks(document) == [("paragraph", "Before"), ("paragraph", "After")]


def test_html_white_on_a_background_is_visible() -> None:
    data = b"<!doctype html><p style='color:white;background:#000'>Seen</p>"
    assert parse(data, "a.html").text == "Seen"


def test_markdown_is_the_text_without_its_marks() -> None:
    document = parsed("md")
    assert document.title == "Opening hours"
    assert blocks(document) == [
        ("heading", "Opening hours"),
        ("paragraph", "From 9:40 to 17:15."),
        ("list_item", "Closed on Mondays"),
        ("table_header", "Ticket | Fee"),
        ("table_row", "Adult | 12.35 EUR"),
        ("code", "x = 1"),
    ]


def test_markdown_hides_what_its_html_hides() -> None:
    data = (
        b"Seen\n\n<div style='display:none'>\nEvil\n</div>\n\n<!-- Evil -->\n\n<p>Also seen</p>\n"
    )
    assert parse(data, "a.md").text == "Seen\n\nAlso seen"


def test_rtf_reads_code_pages_and_unicode_and_drops_hidden_text() -> None:
    assert blocks(parsed("rtf")) == [
        ("heading", "Opening hours"),
        ("paragraph", "From 9:40 to €5. Grüße Пр"),
        ("table_row", "Ticket | Fee"),
    ]


def test_csv_finds_its_delimiter_and_header() -> None:
    assert blocks(parsed("csv")) == [
        ("table_header", "Customer | City"),
        ("table_row", "Acme | Köln"),
    ]
    assert blocks(parse(b'1,2\n"a, b",3\n', "a.csv")) == [
        ("table_row", "1 | 2"),
        ("table_row", "a, b | 3"),
    ]


def test_json_names_every_value_by_its_path() -> None:
    assert blocks(parsed("json")) == [
        ("paragraph", "shop.name: Acme\nshop.cities: Oslo, Bern"),
        ("paragraph", "orders.n: 1"),
        ("paragraph", "orders.n: 2"),
    ]
    assert blocks(parse(b'{"a": 1}\n{"a": 2}\n', "a.jsonl")) == [
        ("paragraph", "a: 1"),
        ("paragraph", "a: 2"),
    ]


def test_a_text_that_speaks_of_pdf_is_a_text() -> None:
    assert parse(b"A pdf begins with %PDF-1.7 and so on.", "a.txt").kind == "txt"


def test_code_is_cut_where_definitions_begin_and_keeps_its_indentation() -> None:
    assert blocks(parsed("code")) == [
        ("code", "import os"),
        ("code", "def first():\n    return 1"),
        ("code", "def second():\n\n    return 2"),
    ]
