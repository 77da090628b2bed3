"""What Windows Setup wants of an answer file, written down independently of the code that makes one.

From Microsoft's reference as the fact sheet collects it (b.2, b.3, b.8, b.11): which component may stand in which
pass, which lists number their items, how long a command may be, what has to come before what. `problems` names every
violation; an answer file without any is well-formed in the sense of these rules, and that is all it proves.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from lxml import etree

U = "{urn:schemas-microsoft-com:unattend}"
W = "{http://schemas.microsoft.com/WMIConfig/2002/State}"

PASSES = ("windowsPE", "offlineServicing", "generalize", "specialize", "auditSystem", "auditUser", "oobeSystem")

#: Components that exist on client and server editions alike, and the passes in which each may stand.
COMPONENTS = {
    "Microsoft-Windows-International-Core-WinPE": {"windowsPE"},
    "Microsoft-Windows-Setup": {"windowsPE"},
    "Microsoft-Windows-LUA-Settings": {"offlineServicing"},
    "Microsoft-Windows-Shell-Setup": {"specialize", "oobeSystem", "auditSystem", "auditUser", "generalize"},
    "Microsoft-Windows-Deployment": {"specialize", "generalize", "auditUser"},
    "Microsoft-Windows-Security-SPP-UX": {"specialize", "oobeSystem", "generalize"},
    "Microsoft-Windows-International-Core": {"specialize", "oobeSystem"},
}

#: Lists: the item that each holds.
ITEMS = {
    "DiskConfiguration": "Disk",
    "CreatePartitions": "CreatePartition",
    "ModifyPartitions": "ModifyPartition",
    "InstallFrom": "MetaData",
    "RunSynchronous": "RunSynchronousCommand",
    "FirstLogonCommands": "SynchronousCommand",
    "LocalAccounts": "LocalAccount",
}
LIMITS = {"Path": 259, "CommandLine": 1024, "ComputerName": 15}


def problems(text: bytes, *, firmware: str) -> list[str]:
    """Everything that is wrong, in words; empty when nothing is."""
    root = etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
    return [
        *_structure(root),
        *_lists(root),
        *_lengths(root),
        *_language(root),
        *_disk(root, firmware),
        *_passwords(root),
    ]


def _structure(root: etree._Element) -> Iterator[str]:
    if root.tag != f"{U}unattend":
        yield f"the root is {root.tag}"
    seen = [settings.get("pass") for settings in root.findall(f"{U}settings")]
    if seen != sorted(seen, key=lambda name: PASSES.index(name or "")):
        yield f"the passes are not in their order: {seen}"
    if len(set(seen)) != len(seen):
        yield f"a pass stands twice: {seen}"
    for settings in root.findall(f"{U}settings"):
        for component in settings.findall(f"{U}component"):
            name = component.get("name") or ""
            if settings.get("pass") not in COMPONENTS.get(name, set()):
                yield f"{name} does not belong into the pass {settings.get('pass')}"
            wanted = {
                "processorArchitecture": "amd64",
                "publicKeyToken": "31bf3856ad364e35",
                "language": "neutral",
                "versionScope": "nonSxS",
            }
            if {key: component.get(key) for key in wanted} != wanted:
                yield f"{name} lacks an attribute"


def _lists(root: etree._Element) -> Iterator[str]:
    for name, item in ITEMS.items():
        for holder in root.iter(f"{U}{name}"):
            found = holder.findall(f"{U}{item}")
            if not found:
                yield f"{name} has no {item}"
            if any(element.get(f"{W}action") != "add" for element in found):
                yield f"an item of {name} is not marked with wcm:action"
            orders = [int(text) for element in found if (text := element.findtext(f"{U}Order"))]
            if orders != list(range(1, len(orders) + 1)):
                yield f"the orders of {name} are {orders}"


def _lengths(root: etree._Element) -> Iterator[str]:
    for tag, limit in LIMITS.items():
        for element in root.iter(f"{U}{tag}"):
            if not 0 < len(element.text or "") <= limit:
                yield f"{tag} has {len(element.text or '')} characters, at most {limit}"


def _language(root: etree._Element) -> Iterator[str]:
    languages = {element.text for element in root.iter(f"{U}UILanguage")}
    if len(languages) != 1:
        yield f"UILanguage is not one language: {languages}"


def _disk(root: etree._Element, firmware: str) -> Iterator[str]:
    partitions = [
        (item.findtext(f"{U}Type"), item.findtext(f"{U}Extend") == "true", item.findtext(f"{U}Size"))
        for item in root.iter(f"{U}CreatePartition")
    ]
    kinds = [kind for kind, _, _ in partitions]
    if kinds != {"uefi": ["EFI", "MSR", "Primary"], "bios": ["Primary", "Primary"]}[firmware]:
        yield f"the partitions {kinds} do not go with {firmware}"
    if [extend for _, extend, _ in partitions] != [False] * (len(partitions) - 1) + [True]:
        yield "exactly the last partition takes the rest of the disk"
    if any(extend == (size is not None) for _, extend, size in partitions):
        yield "a partition has a size or takes the rest, not both"
    msr = [number for number, kind in enumerate(kinds, start=1) if kind == "MSR"]
    changed = {int(item.findtext(f"{U}PartitionID") or 0): item for item in root.iter(f"{U}ModifyPartition")}
    if any(number in changed and changed[number].find(f"{U}Format") is not None for number in msr):
        yield "an MSR partition is never formatted"
    if (firmware == "bios") != any(item.findtext(f"{U}Active") == "true" for item in changed.values()):
        yield "BIOS needs an active partition, UEFI none"
    target = root.find(f".//{U}InstallTo")
    if target is None or target.findtext(f"{U}PartitionID") != str(len(partitions)):
        yield "Windows is not installed to the last partition"
    os_image = root.find(f".//{U}OSImage")
    names = [etree.QName(child).localname for child in os_image] if os_image is not None else []
    if names[:2] != ["InstallFrom", "InstallTo"]:
        yield f"InstallFrom has to come before InstallTo: {names}"
    key = root.find(f".//{U}UserData/{U}ProductKey")
    if key is None or key.find(f"{U}WillShowUI") is None:
        yield "ProductKey has to be there, with or without a key"
    elif (text := key.findtext(f"{U}Key")) is not None and not re.fullmatch(r"[A-Z0-9]{5}(-[A-Z0-9]{5}){4}", text):
        yield "the product key is none"


def _passwords(root: etree._Element) -> Iterator[str]:
    for plain in root.iter(f"{U}PlainText"):
        parent = plain.getparent()
        if parent is None:
            continue
        name = etree.QName(parent).localname
        value = parent.findtext(f"{U}Value") or ""
        try:
            decoded = base64.b64decode(value, validate=True).decode("utf-16-le")
        except (binascii.Error, UnicodeDecodeError):
            yield f"{name} is not base64 of UTF-16LE"
            continue
        if plain.text != "false" or not decoded.endswith(name) or len(decoded) <= len(name):
            yield f"{name} does not end with its element's name"
