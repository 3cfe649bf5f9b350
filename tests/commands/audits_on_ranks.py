"""Runs commands of wideneck as torchrun would, a process for each rank, all of one import.

Reads from standard input a JSON list of runs, each a list of the arguments of its ranks, and prints
for each run the exit codes and what each rank wrote: on standard error, and on standard output too
where that should be nothing.
"""

import json
import os
import socket
import sys
import tempfile

import torch.distributed  # noqa: F401  # before the fork, as all that follows
import transformers  # noqa: F401

from wideneck import cli
from wideneck.audits import states  # noqa: F401
from wideneck.commands import audit, evaluate  # noqa: F401
from wideneck.entry import audit as entry  # noqa: F401


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started(rank, world, port, arguments):
    """The process of one rank, and the file of what it writes."""
    said = tempfile.TemporaryFile("w+")
    process = os.fork()
    if process:
        return process, said
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(said.fileno() if rank else os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(said.fileno(), 2)
    sys.argv = ["wideneck", *arguments]
    code = 1
    try:
        cli.main()
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(of_ranks):
    port = free_port()
    ranks = [started(r, len(of_ranks), port, given) for r, given in enumerate(of_ranks)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process, _ in ranks]
    said = []
    for _, file in ranks:
        file.seek(0)
        said.append(file.read())
    return {"codes": codes, "said": said}


if __name__ == "__main__":
    print(json.dumps([run(one) for one in json.load(sys.stdin)]))
