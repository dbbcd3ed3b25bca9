"""Offers functions to other workers until stdin is closed."""

import os
import sys

from iii import InitOptions, register_worker
from lib import run


async def echo(data):
    return {"echo": data}


def fails(data):
    raise RuntimeError("no such luck")


def main() -> None:
    worker = register_worker(os.environ["HEADWATER_WORKERS"], InitOptions(worker_name=f"python-{os.getpid()}"))
    worker.register_function("python::echo", echo)
    worker.register_function("python::fails", fails)
    # A worker's frames are handled in their order: after this call its functions are known.
    worker.trigger({"function_id": "stream::list_all", "payload": {}})
    print("ready", flush=True)
    sys.stdin.read()
    worker.shutdown()


if __name__ == "__main__":
    run(main)
