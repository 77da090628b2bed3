"""The answer file of an unattended Windows installation. Pure: settings in, XML out.

Kept minimal on purpose: a component that an edition does not have can make Setup reject the whole
pass, so everything that can be done later is done by `wskctl provision`. Component names, passes and
the order of elements are those of Microsoft's unattend reference as collected in the project's fact
sheet (sections b.1 to b.11); nothing here has been seen by a Windows Setup yet.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, cast

from lxml import etree
from pydantic import BaseModel, ConfigDict, Field, SecretStr

__all__ = [
    "ANSWER_FILE_NAME",
    "FIRST_LOGON_SCRIPT",
    "GUEST_ACCOUNT",
    "SPECIALISE_SCRIPT",
    "AnswerSettings",
    "render_answer_file",
]

#: Setup looks for exactly this name in the root of every drive (sheet b.1).
ANSWER_FILE_NAME: Final = "Autounattend.xml"
#: Scripts on the answer disc, below its root; their drive letter is searched for.
SPECIALISE_SCRIPT: Final = r"wsklab\specialise.cmd"
FIRST_LOGON_SCRIPT: Final = r"wsklab\first-logon.cmd"
#: The administrator's account that the lab logs in to.
GUEST_ACCOUNT: Final = "wsklab"

_UNATTEND: Final = "urn:schemas-microsoft-com:unattend"
_WCM: Final = "http://schemas.microsoft.com/WMIConfig/2002/State"
# lxml takes None for the default namespace; its stubs do not know that.
_NAMESPACES: Final = cast("dict[str, str]", {None: _UNATTEND, "wcm": _WCM})
_COMMON: Final = {
    "processorArchitecture": "amd64",
    "publicKeyToken": "31bf3856ad364e35",
    "language": "neutral",
    "versionScope": "nonSxS",
}
#: A: and B: are floppies and C: is the disk; the answer disc can be any of the others (sheet b.4).
_DRIVES: Final = "D E F G H I J K L M N O P Q R S T U V W X Y Z"
_LAB_CONFIG: Final = ("BypassTPMCheck", "BypassSecureBootCheck", "BypassRAMCheck")


class AnswerSettings(BaseModel):
    """What an installation is asked to be.

    Attributes:
        firmware: UEFI gets a GPT disk, BIOS an MBR one; Setup refuses the other combination.
        image_index: index of the edition in the medium's WIM.
        language: the medium's language; another one makes Setup ask.
        product_key: None for evaluation media, where a key is an error.
        computer_name: at most 15 characters, the limit of NetBIOS names.
        password: of the lab's account and of the built-in administrator.
        hardware_check_bypass: skip Setup's checks of TPM, Secure Boot and memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    firmware: Literal["bios", "uefi"]
    image_index: Annotated[int, Field(ge=1)]
    language: Annotated[str, Field(pattern=r"^en-[A-Z]{2}$")]
    product_key: Annotated[str, Field(pattern=r"^[A-Z0-9]{5}(-[A-Z0-9]{5}){4}$")] | None
    computer_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?$")]
    password: SecretStr
    hardware_check_bypass: bool


@dataclass(frozen=True, slots=True)
class _Partition:
    """One partition: its type, its size in MiB (None: the rest), and what it is formatted as."""

    type: str
    size_mib: int | None
    format: str = ""
    label: str = ""
    letter: str = ""
    active: bool = False


# No recovery partition: nothing behind C:, and less that can start a repair loop (sheet b.3, f.9).
_LAYOUTS: Final[Mapping[str, tuple[_Partition, ...]]] = {
    "uefi": (
        _Partition("EFI", 260, "FAT32", "System"),
        _Partition("MSR", 16),
        _Partition("Primary", None, "NTFS", "Windows", letter="C"),
    ),
    "bios": (
        _Partition("Primary", 500, "NTFS", "System", active=True),
        _Partition("Primary", None, "NTFS", "Windows", letter="C"),
    ),
}


def render_answer_file(settings: AnswerSettings) -> bytes:
    """The file's content, UTF-8 with an XML declaration; deterministic."""
    root = etree.Element(f"{{{_UNATTEND}}}unattend", nsmap=_NAMESPACES)
    _windows_pe(_settings(root, "windowsPE"), settings)
    lua = _component(_settings(root, "offlineServicing"), "Microsoft-Windows-LUA-Settings")
    _text(lua, "EnableLUA", "false")
    _specialise(_settings(root, "specialize"), settings)
    _oobe(_settings(root, "oobeSystem"), settings)
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)


def _windows_pe(parent: etree._Element, settings: AnswerSettings) -> None:
    international = _component(parent, "Microsoft-Windows-International-Core-WinPE")
    _text(_child(international, "SetupUILanguage"), "UILanguage", settings.language)
    _locales(international, settings.language)
    setup = _component(parent, "Microsoft-Windows-Setup")
    if settings.hardware_check_bypass:
        commands = [rf"reg.exe add HKLM\SYSTEM\Setup\LabConfig /v {name} /t REG_DWORD /d 1 /f" for name in _LAB_CONFIG]
        _run_synchronous(setup, commands)
    _disk(setup, settings.firmware)
    os_image = _child(_child(setup, "ImageInstall"), "OSImage")
    # InstallFrom comes first: some builds want it so, and none is known to mind.
    _text_pair(_add(_child(os_image, "InstallFrom"), "MetaData"), "/IMAGE/INDEX", str(settings.image_index))
    target = _child(os_image, "InstallTo")
    _text(target, "DiskID", "0")
    _text(target, "PartitionID", str(len(_LAYOUTS[settings.firmware])))
    _text(os_image, "WillShowUI", "OnError")
    user = _child(setup, "UserData")
    _text(user, "AcceptEula", "true")
    _text(user, "FullName", "wsklab")
    _text(user, "Organization", "wsklab")
    key = _child(user, "ProductKey")  # evaluation media want the node, and no key in it (sheet a.5)
    if settings.product_key is not None:
        _text(key, "Key", settings.product_key)
    _text(key, "WillShowUI", "OnError")
    _text(_child(setup, "DynamicUpdate"), "Enable", "false")
    _text(_child(setup, "Diagnostics"), "OptIn", "false")


def _disk(setup: etree._Element, firmware: str) -> None:
    configuration = _child(setup, "DiskConfiguration")
    disk = _add(configuration, "Disk")
    _text(disk, "DiskID", "0")  # the guest has one disk while it is installed: nothing else can be wiped
    _text(disk, "WillWipeDisk", "true")
    create = _child(disk, "CreatePartitions")
    modify = _child(disk, "ModifyPartitions")
    orders = iter(range(1, 10))
    for number, partition in enumerate(_LAYOUTS[firmware], start=1):
        made = _add(create, "CreatePartition")
        _text(made, "Order", str(number))
        _text(made, "Type", partition.type)
        if partition.size_mib is None:
            _text(made, "Extend", "true")
        else:
            _text(made, "Size", str(partition.size_mib))
        if not partition.format:
            continue
        changed = _add(modify, "ModifyPartition")
        _text(changed, "Order", str(next(orders)))
        _text(changed, "PartitionID", str(number))
        if partition.active:
            _text(changed, "Active", "true")
        _text(changed, "Format", partition.format)
        _text(changed, "Label", partition.label)
        if partition.letter:
            _text(changed, "Letter", partition.letter)
    _text(configuration, "WillShowUI", "OnError")


def _specialise(parent: etree._Element, settings: AnswerSettings) -> None:
    shell = _component(parent, "Microsoft-Windows-Shell-Setup")
    _text(shell, "ComputerName", settings.computer_name)
    _text(shell, "TimeZone", "UTC")  # so the machine's clock is UTC, whatever the host's zone is (sheet c.4)
    _text(_component(parent, "Microsoft-Windows-Security-SPP-UX"), "SkipAutoActivation", "true")
    _run_synchronous(_component(parent, "Microsoft-Windows-Deployment"), [_from_any_drive(SPECIALISE_SCRIPT)])


def _oobe(parent: etree._Element, settings: AnswerSettings) -> None:
    _locales(_component(parent, "Microsoft-Windows-International-Core"), settings.language)
    shell = _component(parent, "Microsoft-Windows-Shell-Setup")
    oobe = _child(shell, "OOBE")
    for name in (
        "HideEULAPage",
        "HideLocalAccountScreen",
        "HideOEMRegistrationScreen",
        "HideOnlineAccountScreens",
        "HideWirelessSetupInOOBE",
    ):
        _text(oobe, name, "true")
    _text(oobe, "ProtectYourPC", "3")
    _text(shell, "TimeZone", "UTC")
    accounts = _child(shell, "UserAccounts")
    _password(accounts, "AdministratorPassword", settings.password, suffix="AdministratorPassword")
    account = _add(_child(accounts, "LocalAccounts"), "LocalAccount")
    _text(account, "Name", GUEST_ACCOUNT)
    _text(account, "Group", "Administrators")
    _text(account, "DisplayName", GUEST_ACCOUNT)
    _password(account, "Password", settings.password, suffix="Password")
    logon = _child(shell, "AutoLogon")
    _text(logon, "Enabled", "true")
    _text(logon, "Username", GUEST_ACCOUNT)
    _password(logon, "Password", settings.password, suffix="Password")
    _text(logon, "LogonCount", "5")  # provisioning may restart the guest; the last step switches it off
    command = _add(_child(shell, "FirstLogonCommands"), "SynchronousCommand")
    _text(command, "Order", "1")
    _text(command, "CommandLine", _from_any_drive(FIRST_LOGON_SCRIPT))
    _text(command, "Description", "wsklab")
    _text(command, "RequiresUserInput", "false")


def _locales(parent: etree._Element, language: str) -> None:
    for name in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"):
        _text(parent, name, language)


def _run_synchronous(parent: etree._Element, commands: Sequence[str]) -> None:
    run = _child(parent, "RunSynchronous")
    for order, command in enumerate(commands, start=1):
        element = _add(run, "RunSynchronousCommand")
        _text(element, "Order", str(order))
        _text(element, "Path", command)
        _text(element, "Description", "wsklab")


def _from_any_drive(script: str) -> str:
    """A command that calls a script of the answer disc, whatever letter the disc has got."""
    return rf'cmd.exe /c "for %i in ({_DRIVES}) do if exist %i:\{script} call %i:\{script}"'


def _password(parent: etree._Element, tag: str, password: SecretStr, *, suffix: str) -> None:
    """A password as Setup wants it when it is not plain: base64 of UTF-16LE of the password and its element's name."""
    element = _child(parent, tag)
    _text(element, "Value", base64.b64encode((password.get_secret_value() + suffix).encode("utf-16-le")).decode())
    _text(element, "PlainText", "false")


def _settings(root: etree._Element, name: str) -> etree._Element:
    element = _child(root, "settings")
    element.set("pass", name)
    return element


def _component(parent: etree._Element, name: str) -> etree._Element:
    element = _child(parent, "component")
    element.set("name", name)
    for key, value in _COMMON.items():
        element.set(key, value)
    return element


def _child(parent: etree._Element, tag: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{_UNATTEND}}}{tag}")


def _add(parent: etree._Element, tag: str) -> etree._Element:
    """An item of a list: Setup wants it marked."""
    element = _child(parent, tag)
    element.set(f"{{{_WCM}}}action", "add")
    return element


def _text(parent: etree._Element, tag: str, text: str) -> None:
    _child(parent, tag).text = text


def _text_pair(parent: etree._Element, key: str, value: str) -> None:
    _text(parent, "Key", key)
    _text(parent, "Value", value)
