"""The attention section of an audit: which keys a head selects, and what the selection costs."""
