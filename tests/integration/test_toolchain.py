"""Certificate, signature and PE checks on a real driver file, made with mingw."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pefile
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wsklab.deadline import Deadline
from wsklab.errors import ConfigError, HostCommandError, ToolchainError, UsageError
from wsklab.process import run
from wsklab.toolchain import Certificate, build_driver, check_pe, make_certificate, require_deployable, sign

_SOURCE = Path(__file__).parents[2] / "driver-src"
_DDK = Path("/usr/x86_64-w64-mingw32/include/ddk")
_MISSING = [n for n in ("x86_64-w64-mingw32-gcc", "osslsigncode", "openssl", "cmake", "ninja") if not shutil.which(n)]

pytestmark = pytest.mark.skipif(bool(_MISSING), reason=f"not on this host: {_MISSING}")

_FLAGS = (
    *("-std=gnu11", "-O2", "-ffreestanding", "-fno-builtin", "-mno-stack-arg-probe", "-fno-stack-protector"),
    *("-shared", "-nostdlib", "-nostartfiles", "-Wl,--subsystem,native", "-Wl,--dynamicbase,--nxcompat"),
    *("-Wl,--exclude-all-symbols", "-Wl,--entry,DriverEntry", "-I/usr/x86_64-w64-mingw32/include/ddk"),
)


def _soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


def _link(target: Path, *more: str) -> Path:
    source = _SOURCE / "ctl" / "tests" / "echo_driver.c"
    run(("x86_64-w64-mingw32-gcc", *_FLAGS, *more, source, "-lntoskrnl", "-lhal", "-o", target), deadline=_soon())
    return target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toolchain")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> Certificate:
    return make_certificate(folder / "keys")


@pytest.fixture(scope="module")
def unsigned(folder: Path) -> Path:
    return _link(folder / "echo.sys", "-s")


@pytest.fixture(scope="module")
def signed(folder: Path, unsigned: Path, certificate: Certificate) -> Path:
    target = folder / "signed.sys"
    sign(unsigned, target, certificate, _soon())
    return target


def _bad(path: Path, imports: Path | None = None) -> set[str]:
    return {finding.check for finding in check_pe(path, imports) if not finding.ok}


def test_the_certificate_is_for_test_signing(certificate: Certificate) -> None:
    """RSA 2048, SHA-256, code signing, no CA, valid now and long; the key is for its owner only."""
    loaded = x509.load_der_x509_certificate(certificate.cer.read_bytes())
    usage = loaded.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CODE_SIGNING]
    assert not loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert loaded.public_key().key_size == 2048  # type: ignore[union-attr]
    assert loaded.signature_hash_algorithm is not None
    assert loaded.signature_hash_algorithm.name == "sha256"
    assert loaded.not_valid_after_utc.year == 2049
    assert certificate.key.stat().st_mode & 0o777 == 0o600


def test_the_certificate_is_made_once(certificate: Certificate) -> None:
    """A second call gives the same certificate; a damaged one is an error with a fix."""
    assert make_certificate(certificate.pem.parent) == certificate


def test_a_damaged_certificate_is_named(tmp_path: Path) -> None:
    """What stands in its place and is none is ToolchainError."""
    (tmp_path / "signing.crt").write_text("nonsense")
    with pytest.raises(ToolchainError, match="no signing certificate"):
        make_certificate(tmp_path)


def test_a_signed_driver_passes_every_check(signed: Path) -> None:
    """Every check looks at the file and passes; it can be deployed."""
    findings = check_pe(signed, None)
    assert [f.check for f in findings if not f.ok] == []
    assert len(findings) == 13
    require_deployable(signed)


def test_an_unsigned_driver_fails_only_the_signature(unsigned: Path) -> None:
    """Without a signature it fails there, and deploying it says how to sign it."""
    assert _bad(unsigned) == {"signature", "certificate-table"}
    with pytest.raises(UsageError, match="signature") as caught:
        require_deployable(unsigned)
    assert "driver sign" in caught.value.fix


def test_signing_replaces_and_leaves_nothing(unsigned: Path, certificate: Certificate, tmp_path: Path) -> None:
    """An existing target is replaced; a file that cannot be signed leaves no part behind."""
    target = tmp_path / "x.sys"
    for _ in range(2):
        sign(unsigned, target, certificate, _soon())
    (tmp_path / "no.sys").write_text("not a PE file")
    with pytest.raises(HostCommandError):
        sign(tmp_path / "no.sys", tmp_path / "y.sys", certificate, _soon())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.sys", "x.sys"]


def _patched(signed: Path, target: Path, change: Callable[[pefile.PE], None], *, checksum: bool = True) -> Path:
    image = pefile.PE(data=signed.read_bytes())
    change(image)
    if checksum:
        image.OPTIONAL_HEADER.CheckSum = image.generate_checksum()
    target.write_bytes(image.write())
    image.close()
    return target


def _machine(image: pefile.PE) -> None:
    image.FILE_HEADER.Machine = 0x14C


def _subsystem(image: pefile.PE) -> None:
    image.OPTIONAL_HEADER.Subsystem = 3


def _relocations(image: pefile.PE) -> None:
    image.FILE_HEADER.Characteristics |= 1


def _writable_code(image: pefile.PE) -> None:
    image.sections[0].Characteristics |= 0x80000000


def _not_movable(image: pefile.PE) -> None:
    image.OPTIONAL_HEADER.DllCharacteristics = 0


def _alignment(image: pefile.PE) -> None:
    image.OPTIONAL_HEADER.SectionAlignment = 0x200


def _no_unwind_data(image: pefile.PE) -> None:
    image.OPTIONAL_HEADER.DATA_DIRECTORY[3].Size = 0


def _short_table(image: pefile.PE) -> None:
    image.OPTIONAL_HEADER.DATA_DIRECTORY[4].Size -= 8


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (_machine, "machine"),
        (_subsystem, "subsystem"),
        (_relocations, "relocations"),
        (_writable_code, "sections"),
        (_not_movable, "characteristics"),
        (_alignment, "alignment"),
        (_no_unwind_data, "unwind"),
        (_short_table, "certificate-table"),
    ],
)
def test_a_flaw_is_found(signed: Path, tmp_path: Path, change: Callable[[pefile.PE], None], check: str) -> None:
    """Each flaw of the header is found by its check."""
    assert check in _bad(_patched(signed, tmp_path / "x.sys", change))


def test_a_changed_byte_is_found(signed: Path, tmp_path: Path) -> None:
    """A byte changed after signing: the checksum is wrong; with a right checksum the signature is of other content."""
    data = bytearray(signed.read_bytes())
    data[0x600] ^= 1
    path = tmp_path / "x.sys"
    path.write_bytes(data)
    assert _bad(path) == {"checksum", "signature"}
    assert _bad(_patched(path, tmp_path / "y.sys", lambda _image: None)) == {"signature"}


def test_debug_sections_are_found(tmp_path: Path) -> None:
    """DWARF sections left in the file are found."""
    assert "debug" in _bad(_link(tmp_path / "x.sys", "-g"))


def test_imports_are_compared_with_the_list(signed: Path, tmp_path: Path) -> None:
    """An import that the list does not have is found by name; a list of another form is ConfigError."""
    names = sorted(
        (entry.dll.decode(), symbol.name.decode())
        for entry in pefile.PE(data=signed.read_bytes()).DIRECTORY_ENTRY_IMPORT
        for symbol in entry.imports
    )
    lines = [f'[[import]]\nmodule = "{m}"\nfunction = "{f}"\nminimum = "Windows 10"\n' for m, f in names]
    allowed = tmp_path / "imports.toml"
    allowed.write_text("\n".join(lines))
    assert _bad(signed, allowed) == set()
    allowed.write_text("\n".join(lines[1:]))
    missing = [f for f in check_pe(signed, allowed) if f.check == "imports"]
    assert not missing[0].ok
    assert names[0][1] in missing[0].detail
    allowed.write_text("[[import]]\nmodule = 1\n")
    with pytest.raises(ConfigError):
        check_pe(signed, allowed)


def _guards(function: str) -> list[str]:
    """The conditions around a declaration in mingw-w64's wdm.h and ntifs.h."""
    open_: list[str] = []
    for line in ((_DDK / "wdm.h").read_text("utf-8") + (_DDK / "ntifs.h").read_text("utf-8")).splitlines():
        directive = re.match(r"\s*#\s*(if|ifdef|ifndef|endif)\b\s*(.*)", line)
        if directive and directive[1] == "endif":
            open_.pop()
        elif directive:
            open_.append(directive[2])
        elif re.match(rf"{function}\s*\(", line):
            return open_
    raise AssertionError(f"{function} is not declared")


def test_where_the_first_windows_of_an_import_was_read() -> None:
    """On its page, or the compiler's headers say it; what neither names is in the import library at least."""
    imports = tomllib.loads((_SOURCE / "imports.toml").read_text("utf-8"))["import"]
    by_source = {
        source: {entry["function"] for entry in imports if entry["source"] == source}
        for source in ("page", "header", "library")
    }
    library = subprocess.run(
        ["x86_64-w64-mingw32-nm", _DDK.parents[1] / "lib" / "libntoskrnl.a"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout

    assert sum(map(len, by_source.values())) == len(imports)
    assert {entry["function"] for entry in imports if entry["minimum"] == "not known"} == by_source["library"]
    for name in by_source["header"]:
        assert _guards(name)[-1] == "(NTDDI_VERSION >= NTDDI_WIN2K)", name
    for name in by_source["library"] | by_source["header"]:
        assert re.search(rf"T {name}$", library, re.MULTILINE), name


def _project(folder: Path, body: str = "void WskctlEntry(void) {}") -> Path:
    """A source tree with the shape of driver-src: the preset, two targets."""
    source = folder / "src"
    source.mkdir()
    (source / "main.c").write_text(body)
    (source / "CMakePresets.json").write_text(
        '{"version": 3, "configurePresets": [{"name": "mingw", "generator": "Ninja", "binaryDir": "${sourceDir}/build",'
        '"cacheVariables": {"CMAKE_SYSTEM_NAME": "Windows", "CMAKE_C_COMPILER": "x86_64-w64-mingw32-gcc"}}]}'
    )
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(x C)\n"
        "foreach(file wsklab.sys wskctl.exe)\n"
        "  get_filename_component(name ${file} NAME_WE)\n  add_executable(${name} main.c)\n"
        '  set_target_properties(${name} PROPERTIES OUTPUT_NAME ${file} SUFFIX "")\n'
        "  target_link_options(${name} PRIVATE -nostdlib -nostartfiles -Wl,-e,WskctlEntry)\nendforeach()\n"
    )
    return source


def test_a_build_is_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    """The second build of the same sources is the first; a changed file makes another; the source stays clean."""
    source = _project(tmp_path)
    before = sorted(source.rglob("*"))
    first = build_driver(source, tmp_path / "out", _soon(60))
    again = build_driver(source, tmp_path / "out", _soon(60))
    assert (first.cached, again.cached, first.digest) == (False, True, again.digest)
    assert sorted(source.rglob("*")) == before
    (source / "main.c").write_text("void WskctlEntry(void) { for (;;) {} }")
    assert build_driver(source, tmp_path / "out", _soon(60)).digest != first.digest


def test_a_damaged_build_is_made_again(tmp_path: Path) -> None:
    """A product that was changed on disk is not used."""
    source = _project(tmp_path)
    first = build_driver(source, tmp_path / "out", _soon(60))
    first.sys.write_bytes(b"damage")
    again = build_driver(source, tmp_path / "out", _soon(60))
    assert not again.cached
    assert again.sys.read_bytes()[:2] == b"MZ"


def test_a_compiler_error_is_told(tmp_path: Path) -> None:
    """A source that does not compile is ToolchainError with the compiler's line, and nothing is kept."""
    source = _project(tmp_path, "this is no C")
    with pytest.raises(ToolchainError, match="does not build") as caught:
        build_driver(source, tmp_path / "out", _soon(60))
    assert "error" in caught.value.why
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_the_signature_verifies_for_others_too(signed: Path, certificate: Certificate) -> None:
    """osslsigncode, asked directly, verifies the file against the certificate."""
    argv = ["osslsigncode", "verify", "-CAfile", str(certificate.pem), "-in", str(signed)]
    assert subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0
