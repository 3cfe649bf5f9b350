"""Device nodes for the tests of what we write into, with names of their own.

A writer that is wrong would take /dev/full from the whole machine, if root tests it there.
"""

import os
import stat

import pytest

MINOR = {"null": 3, "full": 7}


def device(folder, name):
    """A node such as /dev/full, in a folder of the test; /dev's own where only root makes nodes."""
    path = folder / name
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, MINOR[name]))
        os.close(os.open(path, os.O_WRONLY))
    except (OSError, AttributeError):
        path.unlink(missing_ok=True)
        if os.geteuid() == 0:
            pytest.skip("root may make no devices here, and should not try out /dev's own")
        return f"/dev/{name}"
    return str(path)


def standard_output(folder):
    """A link such as /dev/stdout."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    path = folder / "stdout"
    path.symlink_to("/proc/self/fd/1")
    return str(path)


def node(path):
    """What must stay as it was: kind, permissions, device number and place."""
    found = os.lstat(path)
    return found.st_mode, found.st_rdev, found.st_ino
