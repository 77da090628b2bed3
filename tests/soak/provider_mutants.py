"""Wrong providers: those that its sources name, and one per MUST assertion, made from a run of all cases.

The named ones sit where a line of the provider decides a rule (`MutantIs` in driver-src/shim/provider). The generated
ones know nothing of the provider. A run of all cases tells every MUST assertion about an operation, and which call of
which function that was; the mutant makes that very call end the other way round.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mutant_runs import Bench, Mutant, run_all

from wsklab.abi import Function, is_success
from wsklab.pytest_plugin import case as case_module
from wsklab.pytest_plugin.observe import Observe
from wsklab.records import Record
from wsklab.resources import conformance_root
from wsklab.rules import AssertionClass

__all__ = ["PREPARATION", "generated", "named", "without_mutant"]

#: Where the watched run writes.
_WATCH = "WSKLAB_TEST_WATCH"
#: An assertion with this name is a step towards the rule, not the rule.
PREPARATION = "preparation: "

#: What the provider calls the functions that take an IRP. A sample is one WskSocket.
_PROVIDER_NAMES: Mapping[Function, str] = {
    Function.SAMPLE_LISTEN: "Socket",
    Function.SOCKET: "Socket",
    Function.SOCKET_CONNECT: "SocketConnect",
    Function.CONTROL_CLIENT: "ControlClient",
    Function.GET_ADDRESS_INFO: "GetAddressInfo",
    Function.GET_NAME_INFO: "GetNameInfo",
    Function.CONTROL_SOCKET: "ControlSocket",
    Function.CLOSE: "CloseSocket",
    Function.BIND: "Bind",
    Function.ACCEPT: "Accept",
    Function.INSPECT_COMPLETE: "InspectComplete",
    Function.LISTEN: "Listen",
    Function.CONNECT: "Connect",
    Function.CONNECT_EX: "ConnectEx",
    Function.GET_LOCAL_ADDRESS: "GetLocalAddress",
    Function.GET_REMOTE_ADDRESS: "GetRemoteAddress",
    Function.SEND: "Send",
    Function.RECEIVE: "Receive",
    Function.DISCONNECT: "Disconnect",
    Function.SEND_TO: "SendTo",
    Function.SEND_MESSAGES: "SendMessages",
    Function.RECEIVE_FROM: "ReceiveFrom",
}


def named(program: Path) -> list[Mutant]:
    """Those that the provider's sources name; `program` is `shim-provider`."""
    listed = subprocess.run([str(program), "--mutants"], capture_output=True, text=True, check=True, timeout=60)
    names = dict.fromkeys(listed.stdout.split())
    return [Mutant(name=name, rule=name.partition("/")[0], environ={"WSKLAB_SHIM_MUTANT": name}) for name in names]


def generated(bench: Bench, *, jobs: int) -> list[Mutant]:
    """One per MUST assertion about an operation; two assertions about one call are one mutant.

    What a case asserts again and again, in a loop or with other parameters, is one assertion.
    """
    folder = bench.folder / "watched"
    folder.mkdir(parents=True)
    files = sorted(conformance_root().glob("test_*.py"))
    watched = [
        Mutant(name=path.name, file=path.name, environ={_WATCH: str(folder / path.stem)}, change=_watch)
        for path in files
    ]
    for _ in run_all(watched, bench, jobs=jobs):
        pass
    found: dict[tuple[str, str, str], Mutant] = {}
    for path in files:
        for line in (folder / path.stem).read_text("utf-8").splitlines():
            for assertion, mutant in _of_case(json.loads(line)):
                found.setdefault(assertion, mutant)
    return list({mutant.name: mutant for mutant in found.values()}.values())


def _of_case(told: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Mutant]]:
    name = told["case"]
    for said in told["assertions"]:
        if said["preparation"] or said["call"] not in told["calls"]:
            continue
        function, nth, succeeded = told["calls"][said["call"]]
        kind = "fail" if succeeded else "succeed"
        mutant = Mutant(
            name=f"{said['rule']}/{name}/{function}-{nth}-{kind}",
            rule=said["rule"],
            case=name,
            environ={"WSKLAB_SHIM_FAULT": f"{function}:{nth}:{kind}"},
        )
        yield (said["rule"], name.partition("[")[0], said["name"]), mutant


def without_mutant(rules: frozenset[str], mutants: list[Mutant]) -> list[str]:
    """The rules that no mutant is for."""
    return sorted(rules - {mutant.rule for mutant in mutants})


def _watch() -> None:
    """In the child: write down every MUST assertion about a record, and every call with its place among its like."""
    assertions: list[dict[str, Any]] = []
    state = Observe.state
    result = case_module.Case.result

    def listening(
        self: Observe,
        rule_id: str,
        kind: AssertionClass,
        name: str,
        subject: object,
        *rest: Any,
        **more: Any,
    ) -> bool:
        if kind is AssertionClass.MUST and isinstance(subject, Record):
            call = str(subject.enter_sequence)
            assertions.append(
                {"rule": rule_id, "name": name, "call": call, "preparation": name.startswith(PREPARATION)}
            )
        return state(self, rule_id, kind, name, subject, *rest, **more)

    def ending(self: case_module.Case) -> Any:
        counts: Counter[str] = Counter()
        calls: dict[str, tuple[str, int, bool]] = {}
        for record in sorted(self.records(), key=lambda one: one.enter_sequence):
            function = _PROVIDER_NAMES.get(record.function)
            if function is None or not record.completion_count:
                continue  # without an IRP the provider keeps no count of it
            counts[function] += 1
            calls[str(record.enter_sequence)] = (function, counts[function], is_success(record.completion_status))
        with Path(os.environ[_WATCH]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"case": self.case, "assertions": assertions, "calls": calls}) + "\n")
        assertions.clear()
        return result(self)

    Observe.state = listening  # type: ignore[method-assign, assignment]
    case_module.Case.result = ending  # type: ignore[method-assign]
