"""`wideneck watch`: the lines of a watched run as a table and as curves."""

from pathlib import Path

from wideneck.commands.destination import deliver, html_and_json


def watch(file: Path, *, html: Path | None = None, json: Path | None = None) -> None:
    """Show a file of lines.

    Raises:
        WideneckError: it cannot be read, or a destination cannot be written.
    """
    page, as_json = html_and_json(html, json, reads=[file])
    from wideneck.report.watched import watch_report

    report = watch_report(file)
    deliver(report.show, (page, report.to_html_text), (as_json, report.to_json_text))
