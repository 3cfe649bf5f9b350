"""How a client's test says what it saw, for the table in docs/clients.md."""

import json

import pytest

RESULTS = ("right", "through", "refused")


@pytest.fixture
def shows(record_property):
    """`shows(what, result, call)`: a row of the table, if the test then passes.

    `what`: what the client does, as "SFT, default loss".  `result`: "right", nothing to do;
    "through", right if the user makes `call`; "refused", a WideneckError.  The row's own client and
    version, unless `client` and `version` are given, as for a client whose way is only copied.
    """

    def shows(what: str, result: str, call: str = "", client: str = "", version: str = "") -> None:
        assert result in RESULTS, f"{result!r} is none of {RESULTS}"
        assert (result == "through") == bool(call), "a call goes with the result 'through'"
        line = {"what": what, "result": result, "call": call, "client": client, "version": version}
        record_property("shows", json.dumps(line))

    return shows
