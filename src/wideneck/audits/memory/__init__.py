"""How often the next token stands in the context, and what a cache of hidden states would find."""

from wideneck.audits.memory.ranks import LayerRanks
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.memory.section import audit_memory

__all__ = ["LayerRanks", "MemoryAudit", "audit_memory"]
