"""Preconditions through the published SDK: what a conflict looks like, and a counter that many callers share.

The argument is how many times to count.
"""

import os
import sys
from typing import Any

from iii import InitOptions, InvocationError, register_worker
from lib import run

DEADLINE_S = 80
GROUP = {"stream_name": "expect", "group_id": "python"}


class Caller:
    def __init__(self, name: str) -> None:
        options = InitOptions(worker_name=f"python-{name}-{os.getpid()}")
        self.worker = register_worker(os.environ["HEADWATER_WORKERS"], options)

    def call(self, function_id: str, payload: Any) -> Any:
        return self.worker.trigger({"function_id": function_id, "payload": payload})

    def gives(self, function_id: str, payload: Any, expected: Any) -> None:
        got = self.call(function_id, payload)
        assert got == expected, f"{function_id} {payload}: expected {expected!r}, got {got!r}"

    def conflict(self, function_id: str, payload: Any, message: str) -> None:
        try:
            got = self.call(function_id, payload)
        except InvocationError as error:
            assert error.code == "STREAM_CONFLICT", f"{function_id} {payload}: got {error}"
            assert message in error.message, f"{function_id} {payload}: got {error}"
            return
        raise AssertionError(f"{function_id} {payload} was to be a conflict, but gave {got!r}")


def main(times: int) -> None:
    a, b = Caller("a"), Caller("b")
    conflicts(a, b)
    count(a, times)
    a.worker.shutdown()
    b.worker.shutdown()


def conflicts(a: Caller, b: Caller) -> None:
    """Two callers saw the same: the first of them may change it."""
    item = {**GROUP, "item_id": "i"}
    for caller in (a, b):
        caller.gives("stream::get", {**item, "revision": True}, {"value": None, "revision": 0})

    first = {"old_value": None, "new_value": {"n": 1}, "revision": 1}
    a.gives("stream::set", {**item, "data": {"n": 1}, "expect": {"revision": 0}}, first)
    stale = {**item, "data": {"n": 2}, "expect": {"revision": 0}}
    b.conflict("stream::set", stale, "at revision 1, expected revision 0")
    b.conflict("stream::delete", {**item, "expect": {"value": {"n": 2}}}, "at revision 1, expected another value")
    ops = [{"type": "increment", "path": "n", "by": 1}]
    b.conflict("stream::update", {**item, "ops": ops, "expect": {"revision": 7}}, "expected revision 7")

    # Python writes this float as `1.0`: it is the same number.
    second = {"old_value": {"n": 1}, "new_value": {"n": 2}, "revision": 2}
    b.gives("stream::update", {**item, "ops": ops, "expect": {"value": {"n": 1.0}}}, second)
    a.gives("stream::list", {**GROUP, "revision": True}, [{"id": "i", "value": {"n": 2}, "revision": 2}])
    removed = {"old_value": {"n": 2}, "revision": 3}
    a.gives("stream::delete", {**item, "expect": {"revision": 2}}, removed)


def count(caller: Caller, times: int) -> None:
    """Reads and sets again until nobody came between, each time."""
    counter = {"stream_name": "expect", "group_id": "shared", "item_id": "counter"}
    done = 0
    while done < times:
        seen = caller.call("stream::get", {**counter, "revision": True})
        change = {"data": (seen["value"] or 0) + 1, "expect": {"revision": seen["revision"]}}
        try:
            caller.call("stream::set", {**counter, **change})
            done += 1
        except InvocationError as error:
            assert error.code == "STREAM_CONFLICT", error


if __name__ == "__main__":
    run(lambda: main(int(sys.argv[1])), DEADLINE_S)
