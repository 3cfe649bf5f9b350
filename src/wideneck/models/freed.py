"""Memory that is freed goes back to the system.

Where layers come from the disk one after the other, each is allocated and freed.  From the second
on, glibc takes blocks of up to 32 MB from its heap, which it can only return from the end: what
should be the memory of one layer grows, by chance, to that of a good part of the model.
"""

import ctypes
from functools import cache

M_MMAP_THRESHOLD = -3
"""Of mallopt(3): blocks from that size on are mapped, and so returned, one by one."""
SIZE = 2**20


@cache
def return_what_is_freed() -> bool:
    """Make it so from 1 MB on, for the rest of the process; False where the C library has no way.

    Cost: the system clears the pages of every such block anew.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, SIZE))
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
