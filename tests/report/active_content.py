"""What a browser would run or load of a page, told by the rules of HTML and of its own policy.

`found` names, for each thing that acts, the directive of a Content Security Policy (level 3) that
would have to allow it; `allowed` leaves what the page's policy does not forbid.  A browser has more
ways to read a page than this parser; where one is installed the tests ask it, too.
"""

from html.parser import HTMLParser

LOADS = {
    ("img", "src"): "img-src",
    ("image", "href"): "img-src",
    ("iframe", "src"): "frame-src",
    ("iframe", "srcdoc"): "frame-src",
    ("object", "data"): "object-src",
    ("embed", "src"): "object-src",
    ("video", "src"): "media-src",
    ("audio", "src"): "media-src",
    ("link", "href"): "style-src",
    ("base", "href"): "base-uri",
    ("form", "action"): "form-action",
    ("button", "formaction"): "form-action",
}
"""Element and attribute -> the directive that says whether it may load."""


class _Acting(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found, self.policies = [], []

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        if tag == "script":
            self.found.append("script-src")
        for name, value in given.items():
            address = "".join(value.split()).lower()
            if name.startswith("on") or address.startswith("javascript:"):
                self.found.append("script-src")
            elif (tag, name) in LOADS:
                self.found.append(LOADS[tag, name])
        if tag == "meta" and given.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(given["content"])


def _read(page):
    reader = _Acting()
    reader.feed(page)
    reader.close()
    return reader


def found(page):
    """The directives of all that acts, in the order of the page, whatever its policy says."""
    return _read(page).found


def allowed(page):
    """Those of them that the page's policy lets act; every one where it has none."""
    reader = _read(page)
    return [one for one in reader.found if all(_allows(p, one) for p in reader.policies)]


def _allows(policy, directive):
    sources = {}
    for part in policy.split(";"):
        name, *values = part.split() or [""]
        sources.setdefault(name, values)  # the first of a name counts
    other = [] if directive.endswith("-src") else ["*"]
    values = sources.get(directive, other or sources.get("default-src", ["*"]))
    return values not in ([], ["'none'"])
