"""All eight stream functions through the published SDK, with their exact results, and the codes of errors."""

import os
from typing import Any

from iii import InitOptions, InvocationError, register_worker
from lib import run

DEADLINE_S = 80
GROUP = {"stream_name": "chat", "group_id": "room-1"}
ITEM = {**GROUP, "item_id": "m1"}


def main() -> None:
    worker = register_worker(os.environ["HEADWATER_WORKERS"], InitOptions(worker_name=f"python-{os.getpid()}"))

    def call(function_id: str, payload: Any) -> Any:
        return worker.trigger({"function_id": function_id, "payload": payload})

    def gives(function_id: str, payload: Any, expected: Any) -> None:
        got = call(function_id, payload)
        same = got == expected and type(got) is type(expected)
        assert same, f"{function_id} {payload}: expected {expected!r}, got {got!r}"

    def refused(function_id: str, payload: Any, code: str) -> None:
        try:
            got = call(function_id, payload)
        except InvocationError as error:
            assert error.code == code, f"{function_id} {payload}: expected {code}, got {error}"
            assert error.message, "an error has a message"
            return
        raise AssertionError(f"{function_id} {payload} was to be refused, but gave {got!r}")

    results(gives)
    earlier_spellings(gives)
    errors(refused)
    worker.shutdown()


def results(gives: Any) -> None:
    """Every function, on a server that holds nothing yet."""
    first = {"id": "m1", "text": "hello", "n": 1}
    second = {"id": "m1", "text": "héllo 😀", "n": 2}
    third = {"id": "m1", "text": "bye", "n": 42}

    gives("stream::list_all", {}, {"stream": [], "count": 0})
    gives("stream::list", GROUP, [])
    gives("stream::list_groups", {"stream_name": "chat"}, [])
    gives("stream::get", ITEM, None)
    gives("stream::delete", ITEM, {"old_value": None})

    gives("stream::set", {**ITEM, "data": first}, {"old_value": None, "new_value": first})
    gives("stream::set", {**ITEM, "data": second}, {"old_value": first, "new_value": second})
    gives("stream::get", ITEM, second)

    ops = [{"type": "increment", "path": "n", "by": 40}, {"type": "set", "path": "text", "value": "bye"}]
    gives("stream::update", {**ITEM, "ops": ops}, {"old_value": second, "new_value": third})
    created = {**GROUP, "item_id": "m0", "ops": [{"type": "merge", "value": {"id": "m0"}}]}
    gives("stream::update", created, {"old_value": None, "new_value": {"id": "m0"}})

    gives("stream::list", GROUP, [third, {"id": "m0"}])
    gives("stream::list_groups", {"stream_name": "chat"}, ["room-1"])
    gives("stream::list_all", {}, {"stream": [{"id": "chat", "groups": ["room-1"]}], "count": 1})
    gives("stream::send", {**GROUP, "type": "typing", "data": {"who": "a"}}, None)
    gives("stream::send", {**GROUP, "id": "m1", "type": "typing", "data": None}, None)

    gives("stream::delete", ITEM, {"old_value": third})
    gives("stream::get", ITEM, None)
    gives("stream::list", GROUP, [{"id": "m0"}])


def earlier_spellings(gives: Any) -> None:
    group = {"stream_name": "earlier", "group_id": "g"}
    item = {**group, "item_id": "i"}
    gives("streams.set", {**item, "data": {"n": 1}}, {"old_value": None, "new_value": {"n": 1}})
    gives("streams.get", item, {"n": 1})
    gives("streams.getGroup", group, [{"n": 1}])
    gives("streams.listGroups", {"stream_name": "earlier"}, ["g"])
    gives("streams.send", {**group, "type": "t", "data": 1}, None)
    gives("streams.delete", item, {"old_value": {"n": 1}})


def errors(refused: Any) -> None:
    bad_input = "deserialization_error"
    refused("stream::set", {}, bad_input)
    refused("stream::set", "text", bad_input)
    refused("stream::set", {**ITEM, "stream_name": ""}, bad_input)
    refused("stream::get", {**ITEM, "item_id": 7}, bad_input)
    refused("stream::update", {**ITEM, "ops": [{"type": "divide", "path": "n", "by": 2}]}, bad_input)
    refused("stream::nothing", ITEM, "function_not_found")
    refused("nobody::has-this", {}, "function_not_found")


if __name__ == "__main__":
    run(main, DEADLINE_S)
