"""A worker of the published SDK that does what it is told, one JSON object a line: `puppet.py NAME`.

What it is told and what it tells is in `../src/puppet.rs`.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import reduce
from typing import Any

from iii import InitOptions, InvocationError, TriggerAction, register_worker
from lib import end, run

NAME = sys.argv[1]
CALL_MS = 60_000
# The behaviours whose name is a word of Python; all others are methods of the same name.
BEHAVIOURS = {"if": "if_"}

Handler = Callable[[Any], Awaitable[Any]]

telling = threading.Lock()


def tell(line: dict[str, Any]) -> None:
    text = json.dumps(line) + "\n"
    with telling:
        sys.stdout.write(text)
        sys.stdout.flush()


class Puppet:
    def __init__(self) -> None:
        options = InitOptions(worker_name=NAME, invocation_timeout_ms=CALL_MS)
        self.worker = register_worker(os.environ["HEADWATER_WORKERS"], options)
        self.functions: dict[str, Any] = {}
        self.triggers: dict[str, Any] = {}
        self.held: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self.released: set[str] = set()
        self.holding = threading.Lock()

    def obey(self, line: str) -> None:
        """Commands run beside each other; registrations are sent before the next command is looked at."""
        command = json.loads(line)
        match command["do"]:
            case "function":
                self.function(command["id"], command["does"])
            case "trigger":
                trigger = {"type": command["type"], "function_id": command["function"], "config": command["config"]}
                if "metadata" in command:
                    trigger["metadata"] = command["metadata"]
                self.triggers[command["function"]] = self.worker.register_trigger(trigger)
            case "unbind":
                self.triggers[command["function"]].unregister()
            case "forget":
                self.functions[command["id"]].unregister()
            case "release":
                self.release(command["function"])
            case "call":
                threading.Thread(target=self.call, args=(command,), daemon=True).start()
                return
            case other:
                raise ValueError(f"no command {other}")
        tell({"n": command["n"]})

    def function(self, function_id: str, does: dict[str, Any]) -> None:
        handler = getattr(self, BEHAVIOURS.get(does["kind"], does["kind"]))(does, function_id)

        async def heard(data: Any, metadata: Any = None) -> Any:
            line = {"heard": function_id, "data": data}
            tell(line if metadata is None else {**line, "metadata": metadata})
            return await handler(data)

        self.functions[function_id] = self.worker.register_function(function_id, heard)

    def call(self, command: dict[str, Any]) -> None:
        request = {"function_id": command["function"], "payload": command["payload"]}
        if "metadata" in command:
            request["metadata"] = command["metadata"]
        if command.get("void"):
            request["action"] = TriggerAction.Void()
        answer: dict[str, Any] = {"n": command["n"]}
        try:
            result = self.worker.trigger(request)
            if result is not None:
                answer["result"] = result
        except InvocationError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        except BaseException as error:  # a thread that dies would leave the test without an answer
            end(repr(error))
        tell(answer)

    # The behaviours of functions.

    def echo(self, _does: dict[str, Any], _id: str) -> Handler:
        async def handler(data: Any) -> Any:
            return {"echo": data}

        return handler

    def gives(self, does: dict[str, Any], _id: str) -> Handler:
        async def handler(_data: Any) -> Any:
            return does["value"]

        return handler

    def nothing(self, _does: dict[str, Any], _id: str) -> Handler:
        async def handler(_data: Any) -> Any:
            return None

        return handler

    def throws(self, does: dict[str, Any], _id: str) -> Handler:
        async def handler(_data: Any) -> Any:
            raise RuntimeError(does["message"])

        return handler

    def holds(self, does: dict[str, Any], function_id: str) -> Handler:
        async def handler(_data: Any) -> Any:
            event = asyncio.Event()
            with self.holding:
                if function_id not in self.released:
                    self.held.setdefault(function_id, []).append((asyncio.get_running_loop(), event))
                else:
                    event.set()
            await event.wait()
            return does.get("value")

        return handler

    def release(self, function_id: str) -> None:
        with self.holding:
            self.released.add(function_id)
            for loop, event in self.held.pop(function_id, []):
                loop.call_soon_threadsafe(event.set)

    def calls(self, does: dict[str, Any], _id: str) -> Handler:
        async def handler(data: Any) -> Any:
            request = {"function_id": does["function"], "payload": does.get("payload", data)}
            return {"by": NAME, "got": await self.worker.trigger_async(request)}

        return handler

    def voids(self, does: dict[str, Any], _id: str) -> Handler:
        async def handler(data: Any) -> None:
            request = {"function_id": does["function"], "payload": data, "action": TriggerAction.Void()}
            await self.worker.trigger_async(request)

        return handler

    def if_(self, does: dict[str, Any], _id: str) -> Handler:
        def step(value: Any, key: str) -> Any:
            return value.get(key) if isinstance(value, dict) else None

        async def handler(data: Any) -> Any:
            there = reduce(step, does["path"], data)
            return does["then"] if there == does["is"] else does["else"]

        return handler

    def authenticates(self, does: dict[str, Any], _id: str) -> Handler:
        async def handler(data: Any) -> Any:
            headers = data["headers"]
            token = headers.get("authorization", "").removeprefix("Bearer ")
            if not token:
                token = next(iter(data["query_params"].get("token", [])), None)
            if not token:
                token = headers.get("sec-websocket-protocol", "").removeprefix("Authorization,").strip()
            tokens = does["tokens"]
            return {"context": tokens[token]} if token in tokens else {"unauthorized": True}

        return handler


def main() -> None:
    puppet = Puppet()
    for line in sys.stdin:
        puppet.obey(line)
    puppet.worker.shutdown()


if __name__ == "__main__":
    run(main)
