"""`wsklab.vcxproj`, which nobody here can build, says what the CMake build says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lxml import etree

DRIVER = Path(__file__).parents[2] / "driver-src"
CMAKE = "".join((DRIVER / "sys" / name).read_text() for name in ("sources.cmake", "CMakeLists.txt"))
NAMESPACE = {"m": "http://schemas.microsoft.com/developer/msbuild/2003"}
PROJECT = etree.parse(DRIVER / "wsklab.vcxproj")

#: A CMake option, and the element of the project that means the same, with its value.
SETTINGS = {
    "-std=gnu11": ("LanguageStandard_C", "stdc11"),
    "-Os": ("Optimization", "MinSpace"),
    "-g": ("DebugInformationFormat", "ProgramDatabase"),
    "-Wall": ("WarningLevel", "Level4"),
    "-Wextra": ("WarningLevel", "Level4"),
    "-Werror": ("TreatWarningAsError", "true"),
    "-ffunction-sections": ("FunctionLevelLinking", "true"),
    "-Wl,--gc-sections": ("OptimizeReferences", "true"),
    "-Wl,--dynamicbase": ("RandomizedBaseAddress", "true"),
    "-Wl,--nxcompat": ("DataExecutionPrevention", "true"),
    "-Wl,-Map,${CMAKE_CURRENT_BINARY_DIR}/wsklab.map": ("GenerateMapFile", "true"),
    "-Wl,--subsystem,native": ("SubSystem", "Native"),
}
#: Options for which the WDK's own defaults stand: its compiler, its CRT-free kernel libraries, its linker.
OF_THE_WDK = {
    *("-Wstrict-prototypes", "-Wmissing-prototypes", "-Wframe-larger-than=2048"),
    *("-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-mno-stack-arg-probe", "-mno-avx"),
    *("-fasynchronous-unwind-tables", "-fvisibility=hidden", "-fdata-sections"),
    *("-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.", "--param=min-pagesize=0", "-gcodeview", "-fuse-ld=lld"),
    *("-nostdlib", "-nostartfiles", "-Wl,--entry,DriverEntry", "-Wl,--image-base,0x140000000"),
    *("-Wl,--high-entropy-va", "-Wl,--exclude-all-symbols", "-Wl,--no-insert-timestamp"),
    *("-Wl,--disable-auto-import", "-Wl,--disable-runtime-pseudo-reloc"),
    *("-Wl,--major-subsystem-version,6", "-Wl,--minor-subsystem-version,1"),
    *("-Wl,--major-os-version,6", "-Wl,--minor-os-version,1"),
    *("-Wl,--file-alignment,0x200", "-Wl,--section-alignment,0x1000"),
    *("-Wl,--subsystem,native:6.1", "-Wl,-Xlink=-osversion:6.1", "-Wl,-Xlink=-driver"),
    *("-Wl,--pdb=${CMAKE_BINARY_DIR}/wsklab.pdb", "-Wl,-Xlink=-pdbaltpath:wsklab.pdb"),
}


def command(name: str) -> list[str]:
    """All arguments of all calls of a CMake command, without comments."""
    text = re.sub(r"#.*", "", CMAKE)
    return [word for match in re.findall(rf"{name}\(([^)]*)\)", text) for word in match.split()]


def values(element: str) -> list[str]:
    """What the project says in an element, wherever it stands."""
    return [node.text or "" for node in PROJECT.iterfind(f".//m:{element}", NAMESPACE)]


def included(element: str) -> list[str]:
    """The files that the project names, as paths under `driver-src`."""
    nodes = PROJECT.iterfind(f".//m:ItemGroup/m:{element}[@Include]", NAMESPACE)
    return [str(node.get("Include")).replace("\\", "/") for node in nodes]


def test_the_source_lists_are_equal() -> None:
    """The project compiles exactly the files of CMake's list, which are exactly those in the folder."""
    sources = re.search(r"set\(sources\s+([^)]*)\)", CMAKE)
    assert sources is not None
    listed = [f"sys/{name}" for name in sources.group(1).split()]

    assert sorted(included("ClCompile")) == sorted(listed)
    assert sorted(listed) == sorted(f"sys/{path.name}" for path in (DRIVER / "sys").glob("*.c"))


def test_the_headers_are_those_of_the_digest() -> None:
    """CMake digests sys/*.h and include/*.h; the project's digest is made from the same files."""
    folder = "${CMAKE_CURRENT_LIST_DIR}"
    assert f"file(GLOB headers CONFIGURE_DEPENDS {folder}/*.h {folder}/../include/*.h)" in CMAKE
    found = [f"{folder}/{path.name}" for folder in ("sys", "include") for path in (DRIVER / folder).glob("*.h")]

    assert sorted(included("ClInclude")) == sorted(found)


def test_every_option_is_accounted_for() -> None:
    """A compiler or linker option of CMake has its setting in the project, or stands in the list of those without."""
    options = [
        word for word in command("target_compile_options") + command("target_link_options") if word.startswith("-")
    ]

    assert options
    assert set(options) - set(SETTINGS) - OF_THE_WDK == set()
    assert (set(SETTINGS) | OF_THE_WDK) - set(options) == set(), "no longer in CMake's build"


@pytest.mark.parametrize("option", SETTINGS)
def test_a_setting_matches(option: str) -> None:
    """The element that means the same has the value that means the same."""
    element, value = SETTINGS[option]

    assert value in values(element)


def test_libraries_folders_and_label_match() -> None:
    """Import libraries, include folders and the label in HELLO are CMake's."""
    libraries = command("target_link_libraries")[2:]
    label = re.search(r'"-DLABEL=([^"]*)"', CMAKE)
    assert label is not None

    assert values("AdditionalDependencies") == [
        ";".join(f"{name}.lib" for name in libraries) + ";%(AdditionalDependencies)"
    ]
    assert values("AdditionalIncludeDirectories")[0].split(";")[:3] == [
        "$(ProjectDir)sys",
        "$(ProjectDir)include",
        "$(IntDir)generated",
    ]
    commands = [str(node.get("Command")) for node in PROJECT.iterfind(".//m:Exec", NAMESPACE)]
    assert len(commands) == 1
    assert f'"-DLABEL={label.group(1)}"' in commands[0]


def test_it_asks_for_no_newer_windows_than_the_driver() -> None:
    """A WDM driver for Windows 10 and Server 2016, x64, native, unsigned by the WDK."""
    assert values("DriverType") == ["WDM"]
    assert values("ConfigurationType") == ["Driver"]
    assert (values("TargetVersion"), values("_NT_TARGET_VERSION")) == (["Windows10"], ["0x0A00"])
    assert set(values("Platform")) == {"x64"}
    assert values("SignMode") == ["Off"]
