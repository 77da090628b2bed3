"""The driver's own file of the published sample does what the page "Creating Sockets" shows, in that order."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "driver-src" / "sys" / "sample_listen.c"

#: The page's calls with their arguments, in the page's order; spaces do not count.
CREATE = [
    "IoAllocateIrp(1,FALSE)",
    "if(!Irp)",
    "return STATUS_INSUFFICIENT_RESOURCES",
    "IoSetCompletionRoutine(Irp,CreateListeningSocketComplete,SocketContext,TRUE,TRUE,TRUE)",
    "WskProviderNpi->Dispatch->WskSocket(WskProviderNpi->Client,AF_INET,SOCK_STREAM,IPPROTO_TCP,WSK_FLAG_LISTEN_SOCKET,"
    "SocketContext,Dispatch,NULL,NULL,NULL,Irp)",
    "return Status",
]
COMPLETE = [
    "if(Irp->IoStatus.Status==STATUS_SUCCESS)",
    "SocketContext->Socket=(PWSK_SOCKET)Irp->IoStatus.Information",
    "else",
    "IoFreeIrp(Irp)",
    "return STATUS_MORE_PROCESSING_REQUIRED",
]
#: Nothing of WSK or of IRPs may be in these functions but the page's calls.
API = re.compile(r"\b(?:Io|Wsk|Ke|Ex|Mm)[A-Z]\w+(?=\()")


def body(name: str) -> str:
    """The body of a function, without comments, without spaces except after a keyword."""
    text = re.sub(r"/\*.*?\*/", "", SOURCE.read_text(), flags=re.DOTALL)
    match = re.search(rf"^static NTSTATUS (?:NTAPI )?{name}\([^;{{]*\) \{{\n(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    squeezed = re.sub(r"\s+", " ", match.group(1))
    return re.sub(r"(?<!return) (?!$)", "", squeezed)


def assert_in_order(text: str, wanted: list[str]) -> None:
    at = 0
    for piece in wanted:
        found = text.find(piece, at)
        assert found >= 0, f"{piece} is missing, or not where the page has it, in: {text}"
        at = found + len(piece)


def test_the_creation_is_the_pages() -> None:
    """Fact: allocate, check, set the routine with three TRUE flags, WskSocket with the page's eleven arguments."""
    text = body("CreateListeningSocket")
    assert_in_order(text, CREATE)
    assert API.findall(text) == ["IoAllocateIrp", "IoSetCompletionRoutine", "WskSocket"]


def test_the_completion_is_the_pages() -> None:
    """Fact: test the status, save the socket, free the IRP, answer MORE_PROCESSING_REQUIRED."""
    text = body("CreateListeningSocketComplete")
    assert_in_order(text, COMPLETE)
    assert API.findall(text) == ["IoFreeIrp"]
    assert text.count("return ") == 1
