"""A run to which something is done: started, caught in the middle of a case, and its end looked at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab_home import PROFILE, LabCommand

from wsklab.assemble import Lab
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.guest import Guest
from wsklab.network import Wires

CASES = Path(__file__).parents[1] / "failures"


class Incident:
    """One run with a victim."""

    def __init__(self, lab: LabCommand, place: Path, *, workers: int = 1, env: Mapping[str, str] | None = None) -> None:
        self.lab = lab
        self.place = place
        place.mkdir()
        words = ["run", "--json", "--guest", PROFILE, "--guests-each", "1", "--workers", str(workers)]
        words += ["--case", "test_victim.py::*", "--", str(CASES)]
        environ = {**lab.environ, "CHAOS_PLACE": str(place), **(env or {})}
        with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
            self.child = subprocess.Popen(
                lab.argv(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environ, cwd=place,
                start_new_session=True,
            )  # fmt: skip
        try:
            self.guest, worker = wait_until(self._caught, Deadline.after(900), what="the victim").split()
        except BaseException:
            self.stop()  # or it would be in the way of whatever comes next
            raise
        self.worker = int(worker)

    def stop(self) -> None:
        """End a run that is still going on, as Ctrl-C does."""
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(120)

    def _caught(self) -> str | NotYet:
        assert self.child.poll() is None, (self.place / "err").read_text()[-3000:]
        victim = self.place / "victim"
        return victim.read_text() if victim.exists() else NotYet("no case has begun")

    def go(self) -> None:
        """Let the victim pass."""
        (self.place / "go").touch()

    def end(self, seconds: float = 900) -> tuple[int, dict[str, Any]]:
        """The exit code and the document; nothing of the run is left."""
        code = self.child.wait(seconds)
        text = (self.place / "out").read_text()
        assert "Traceback" not in (self.place / "err").read_text(), (self.place / "err").read_text()[-6000:]
        return code, json.loads(text)

    def lines(self, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The cases by their short name."""
        text = (Path(document["results_dir"]) / "results.jsonl").read_text()
        return {line["case"].partition("::test_")[2]: line for line in map(json.loads, text.splitlines())}

    def guests(self, lab: Lab) -> Guest:
        """The victim's guest as the lab's own code sees it."""
        return next(guest for guest in lab.guests() if guest.name == self.guest)

    def inside(self, command: str) -> str:
        """A command in the Linux below the victim's guest."""
        answer = self.lab.run("exec", self.guest, "--json", "--", f"linux: {command}")
        return str(answer.document["result"]["stdout"])


def opened(lab: LabCommand) -> Lab:
    """The lab of that home, in this process."""
    return Lab(LabConfig(home=lab.home, mode=ModeSetting.PRIVATE))


def leftovers(lab: LabCommand) -> dict[str, object]:
    """What is still there of the runs of a home, by kind; empty when all is gone."""
    found: dict[str, object] = {
        "gc would take": lab.ok("gc", "--dry-run", "--json")["removed"],
        "guests": lab.ok("list", "--json")["guests"],
        "machines": lab.processes(),
        "files": [str(path) for path in (lab.home / "guests").iterdir()],
        "runs": [str(path) for path in (lab.home / "runs").iterdir()],
        "claims": [
            slot.name for slot in Path("/run/lock/wsklab-slots").glob("[0-9]*") if str(lab.home) in slot.read_text()
        ],
    }
    holder = lab.holder()
    found["wires"] = Wires(holder).names() if holder is not None else []
    return {kind: what for kind, what in found.items() if what}
