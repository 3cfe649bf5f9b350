"""The page of a reproduction as a reader and a browser find it."""

import re
import xml.etree.ElementTree as ET

from report.html_tree import read

FETCHED = re.compile(r"\bsrc\s*=|@import|url\(|<script|<link|<iframe|<object", re.IGNORECASE)


def checked(page: str) -> str:
    """Its text, where it is one file that fetches nothing and whose links all lead somewhere."""
    assert not FETCHED.search(page)
    tree = read(page)
    assert len(tree.ids) == len(set(tree.ids))
    assert {link.removeprefix("#") for link in tree.links} <= set(tree.ids)
    assert any(link.startswith("#def-") for link in tree.links)
    return " ".join(tree.text.replace("\u00a0", " ").split())


def charts(page: str) -> list[str]:
    """Titles of its drawings, each of which is XML without a number that is none."""
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert not any("nan" in chart for chart in drawn)
    return [ET.fromstring(chart)[0].text or "" for chart in drawn]


def rows(page: str, *, beside: bool) -> list[str]:
    """First cells of the rows that are ours, or of those that stand beside ours."""
    found = re.findall(r'<tr( class="beside")?><th [^>]*>(.*?)</th>', page, re.DOTALL)
    return [re.sub(r"<[^>]*>", "", cell).strip() for mark, cell in found if bool(mark) == beside]
