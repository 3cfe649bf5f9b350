"""Measures of the output layer on a text."""

from wideneck.audits.output.section import OutputAudit, audit_output

__all__ = ["OutputAudit", "audit_output"]
