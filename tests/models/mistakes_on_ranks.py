"""Two processes that share work as torchrun's do, of which one breaks where it is told to.

Reads from standard input a JSON list of (place, rank), and prints for each the exit codes of
both; one that does not end in a minute is ended, with the code of the alarm.
"""

import json
import os
import signal
import socket
import sys

import torch.distributed  # noqa: F401  # before the fork

from wideneck.models.ranks import joined


def shared(place, breaks):
    def here(one):
        if one == place and breaks:
            raise KeyError("planted")

    def work(i):
        here("in a piece of work")
        return i

    with joined() as ranks:
        here("before the work")
        list(ranks.in_order(4, work))
        here("after the work")


def code_of(rank, port, place, breaks):
    """The process of one rank, which ends by itself or by its alarm."""
    process = os.fork()
    if process:
        return process
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    signal.alarm(60)
    code = 0
    try:
        shared(place, breaks)
    except KeyError:
        code = 3
    except BaseException as error:
        code = 4 if "is gone" in str(error) else 5
    os._exit(code)


def started(place, who):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [code_of(rank, port, place, rank == who) for rank in range(2)]


def ended(processes):
    return [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in processes]


if __name__ == "__main__":
    pairs = [started(*one) for one in json.load(sys.stdin)]
    print(json.dumps([ended(pair) for pair in pairs]))
