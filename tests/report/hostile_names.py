"""Names that strangers' files may give to tokens, tensors, files and models."""

LONG = 2**18

NAMES = {
    "script": "<script>document.title='ran'</script>",
    "script that closes": "</title></style></script><script>document.title='ran'</script>",
    "image": "<img src=x onerror=\"document.title='ran'\">",
    "attribute": '" onmouseover="document.title=\'ran\'" x="',
    "attribute, single": "' autofocus onfocus='document.title=1' x='",
    "link": "<a href=\"javascript:document.title='ran'\">here</a>",
    "url": "javascript:document.title='ran'",
    "data url": "data:text/html,<script>document.title='ran'</script>",
    "frame": "<iframe srcdoc=\"<script>parent.document.title='ran'</script>\"></iframe>",
    "object": "<object data=x></object><embed src=x>",
    "svg": "<svg onload=\"document.title='ran'\"></svg>",
    "foreign": "</text><foreignObject><b id=planted>x</b></foreignObject>",
    "math": "<math><mtext><b id=planted>x</b></mtext></math>",
    "style": "</style><style>body{display:none}</style>",
    "css": "x;background:url(//example.org/x);}*{display:none}",
    "base": '<base href="//example.org/">',
    "refresh": '<meta http-equiv="refresh" content="0;url=//example.org">',
    "form": "<form action=//example.org><button id=planted autofocus>",
    "cdata": "]]><b id=planted>x</b><![CDATA[",
    "comment": "--><b id=planted>x</b><!--",
    "entity": "&lt;script&gt;&#60;b id=planted&#62;&amp;lt;",
    "template": "{{ 7*7 }}{% raw %}${7*7}#{7*7}",
    "format": "%s%n{0}{self.__class__}",
    "pretty": "x^{<b>}_{<b>} 1e-3<b id=planted>",
    "markup": "[bold red]x[/bold red][/][link=https://example.org]y[/link]:smile:",
    "colour": "\x1b[31;1mred\x1b[0m",
    "title of the window": "\x1b]0;ran\x07\x1b[2J\x1b[H",
    "link of the terminal": "\x1b]8;;https://example.org\x1b\\here\x1b]8;;\x1b\\",
    "c1": "\x9b31mred\x9d0;ran\x9c\x90q\x9c",
    "overrides": "abc\u202egnp.exe\u2066\u2067x\u2069",
    "zero width": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
    "tags": "a\U000e0041\U000e0042\U000e007f",
    "surrogates": "a\udcff\udc80\ud800b",
    "nul": "a\0b\x01\x7f",
    "newlines": "a\nwideneck: all is well\r\nb\u2028c\u2029d\x85e",
    "return": "all is well\rwideneck: ",
    "backspace": "bad\b\b\bgood\t\v\f",
    "tower": "z" + "\u0301\u0316\u0489" * 40 + "algo",
    "right to left": "שלום 123 مرحبا",
    "emoji": "👩🏽‍💻🏴‍☠️\ufe0f",
    "long": "long" * (LONG // 4),
    "long marks": "z" + "\u0301" * 5000,
    "spaces": "\u00a0\u2003\u3000 ",
    "empty": "",
}


def for_files():
    """Those that can be the names of files, in bytes as the system takes them."""
    found = {}
    for key, name in NAMES.items():
        short = name.replace("/", "\u2044").replace("\0", "")[:60]
        found[key] = short.encode("utf-8", "surrogatepass") or b"-"
    return found
