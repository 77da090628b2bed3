"""From the driver's source to a file that Windows loads: cross-build, certificate, signature.

A build is content-addressed: the same sources with the same compiler are built once. Everything lands in
`<build_dir>/<digest>/`; a build that was cut short leaves nothing there.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import HostCommandError, ToolchainError
from wsklab.pe_check import Finding, check_pe, require_deployable
from wsklab.process import run

__all__ = [
    "BuildResult",
    "Certificate",
    "Finding",
    "build_driver",
    "build_package",
    "check_pe",
    "make_certificate",
    "require_deployable",
    "sign",
    "source_digest",
]

#: The preset of `driver-src/CMakePresets.json` that cross-builds for Windows.
PRESET: Final = "mingw"

_COMPILER: Final = "x86_64-w64-mingw32-gcc"
_TARGETS: Final = ("wsklab", "wskctl")
_PRODUCTS: Final = ("wsklab.sys", "wskctl.exe")
_SYMBOLS: Final = ("wsklab.debug", "wskctl.debug", "wsklab.sys.debug", "wskctl.exe.debug", "wsklab.map")
_DESCRIPTION: Final = "build.json"
_SUBJECT: Final = "wsklab test signing"

# Clocks of test machines are wrong in both directions.
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build gave.

    Attributes:
        sys: the driver; signed when it comes from `build_package`.
        ctl: `wskctl.exe`.
        symbols: files with debug information, as far as the build makes them.
        digest: SHA-256 over all inputs: sources, compiler, tools.
        cached: whether it had been built before.
    """

    sys: Path
    ctl: Path
    symbols: tuple[Path, ...]
    digest: str
    cached: bool

    @property
    def driver_sha256(self) -> str:
        """SHA-256 of the driver file as it is."""
        return _file_digest(self.sys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed code-signing certificate.

    Attributes:
        key: private key, PEM, mode 0600.
        pem: the certificate, PEM.
        cer: the certificate, DER: what `certutil -addstore` takes.
        fingerprint: SHA-256 of the DER form.
    """

    key: Path
    pem: Path
    cer: Path
    fingerprint: str


def source_digest(source: Path, deadline: Deadline) -> str:
    """SHA-256 over everything that a build of `source` depends on.

    Raises:
        HostCommandError: a tool is not there. ToolchainError: `source` cannot be read.
    """
    total = hashlib.sha256()
    for argv in ((_COMPILER, "--version"), ("x86_64-w64-mingw32-ld", "--version"), ("cmake", "--version")):
        total.update(run(argv, deadline=deadline).stdout.encode())
    try:
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_file() and not _is_scratch(relative):
                total.update(f"{relative.as_posix()}\0{_file_digest(path)}\n".encode())
    except OSError as error:
        raise ToolchainError(f"the driver's source cannot be read: {source}", why=str(error)) from error
    return total.hexdigest()


def _is_scratch(relative: Path) -> bool:
    """What stands in the source tree without being an input of the build."""
    return relative.parts[0].startswith(("build", ".")) or "tests" in relative.parts or "shim" in relative.parts


def build_driver(
    source: Path, build_dir: Path, deadline: Deadline, *, progress: Callable[[str], None] | None = None
) -> BuildResult:
    """Cross-build `wsklab.sys` and `wskctl.exe`, unless the same inputs were built before.

    Args:
        source: the folder `driver-src`; nothing is written there.
        build_dir: where builds are kept, one folder per digest.
        deadline: bounds everything, waiting for another build included.
        progress: told what is going on.

    Raises:
        ToolchainError: it does not compile; the last lines of the compiler are in `why`.
        HostCommandError: a tool is not there.
    """
    say = progress or (lambda _step: None)
    say("looking for an earlier build")
    digest = source_digest(source, deadline)
    target = build_dir / digest[:16]
    with _locked(build_dir, deadline):
        found = _load(target, digest)
        if found is not None:
            return found
        say("building the driver")
        work = build_dir / f".{digest[:16]}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        try:
            _compile(source, work / "cmake", deadline)
            _collect(work, digest)
            shutil.rmtree(target, ignore_errors=True)
            (work / "product").rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    built = _load(target, digest)
    if built is None:
        raise ToolchainError("the driver was built and is gone again", why=f"nothing complete in {target}")
    return replace(built, cached=False)


def build_package(
    source: Path,
    build_dir: Path,
    keys: Path,
    deadline: Deadline,
    *,
    progress: Callable[[str], None] | None = None,
) -> BuildResult:
    """Build, sign and check: the driver as it is deployed, and `wskctl.exe`.

    Args:
        keys: the folder of the signing certificate, made when it is not there.

    Raises:
        ToolchainError: it does not build, or a check of the signed file fails; the check is named.
    """
    say = progress or (lambda _step: None)
    built = build_driver(source, build_dir, deadline, progress=progress)
    certificate = make_certificate(keys)
    folder = built.sys.parent / f"signed-{certificate.fingerprint[:12]}"
    signed = folder / built.sys.name
    with _locked(build_dir, deadline):
        if not signed.exists():
            say("signing the driver")
            folder.mkdir(exist_ok=True)
            sign(built.sys, signed, certificate, deadline)
            bad = [f for f in check_pe(signed, source / "imports.toml") if not f.ok]
            if bad:
                signed.unlink()
                raise ToolchainError(
                    "the driver's file is not as Windows wants it",
                    why="; ".join(f"{finding.check}: {finding.detail}" for finding in bad),
                    fix="see: wsklab driver check",
                    evidence={"findings": [f"{finding.check}: {finding.detail}" for finding in bad]},
                )
    return replace(built, sys=signed)


def make_certificate(folder: Path) -> Certificate:
    """The lab's code-signing certificate, made at the first call: RSA 2048, SHA-256, EKU code signing.

    Valid 2020 to 2049, so that no guest's clock matters. Test signing accepts any certificate.

    Raises:
        ToolchainError: the folder cannot be written, or what is there is no certificate.
    """
    paths = Certificate(
        key=folder / "signing.pem", pem=folder / "signing.crt", cer=folder / "signing.cer", fingerprint=""
    )
    try:
        if not paths.pem.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_certificate(paths)
        loaded = x509.load_pem_x509_certificate(paths.pem.read_bytes())
    except (OSError, ValueError) as error:
        raise ToolchainError(
            f"no signing certificate in {folder}", why=str(error), fix=f"remove {paths.pem}; the next build makes one"
        ) from error
    return replace(paths, fingerprint=loaded.fingerprint(hashes.SHA256()).hex())


def sign(source: Path, target: Path, certificate: Certificate, deadline: Deadline) -> None:
    """Sign a PE file (Authenticode, SHA-256), set its checksum, and verify the result.

    Args:
        source: the file as the linker made it.
        target: where the signed one goes; replaced when it exists.

    Raises:
        HostCommandError: osslsigncode is not there, or refuses the file.
        ToolchainError: the result does not verify.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)  # osslsigncode refuses to overwrite
    keys = ("-certs", certificate.pem, "-key", certificate.key)
    try:
        run(
            ("osslsigncode", "sign", *keys, "-h", "sha256", "-n", "wsklab test driver", "-in", source, "-out", part),
            deadline=deadline,
        )
        try:
            run(("osslsigncode", "verify", "-CAfile", certificate.pem, "-in", part), deadline=deadline)
        except HostCommandError as error:
            raise ToolchainError(f"the signature of {source.name} does not verify", why=error.why) from error
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _write_certificate(paths: Certificate) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _SUBJECT)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # a folder that its group may write is one of a shared home: every member signs with the same key
    shared = paths.key.parent.stat().st_mode & stat.S_IWGRP
    _write(paths.key, private, mode=0o640 if shared else 0o600)
    _write(paths.cer, certificate.public_bytes(serialization.Encoding.DER), mode=0o644)
    # Last: its presence says that the other two are there.
    _write(paths.pem, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    part.replace(path)


def _compile(source: Path, build: Path, deadline: Deadline) -> None:
    build.mkdir(parents=True)
    steps = (
        ("cmake", "--preset", PRESET, "-S", source, "-B", build),
        # Only what is deployed: the drivers of the driver's own tests are nobody's input here.
        ("cmake", "--build", build, "--target", *_TARGETS, "--", "-k", "0"),
    )
    for argv in steps:
        # cmake looks for the presets in its working directory.
        result = run(argv, deadline=deadline, cwd=source, check=False)
        if result.exit_code != 0:
            output = f"{result.stdout}\n{result.stderr}".strip()
            errors = [line for line in output.splitlines() if "error" in line.lower()]
            raise ToolchainError(
                "the driver does not build",
                why=(errors or output.splitlines() or ["no output"])[0][:300],
                fix="the whole output is in the evidence",
                evidence={"output": output[-20_000:]},
            )


def _collect(work: Path, digest: str) -> None:
    product = work / "product"
    product.mkdir()
    files = {path.name: path for path in sorted((work / "cmake").rglob("*")) if path.is_file()}
    missing = [name for name in _PRODUCTS if name not in files]
    if missing:
        raise ToolchainError("the build made no " + ", ".join(missing), why="the build said it succeeded")
    names = [*_PRODUCTS, *(name for name in _SYMBOLS if name in files)]
    for name in names:
        shutil.copyfile(files[name], product / name)
    description = {"digest": digest, "files": {name: _file_digest(product / name) for name in names}}
    (product / _DESCRIPTION).write_text(json.dumps(description, indent=1))


def _load(folder: Path, digest: str) -> BuildResult | None:
    """An earlier build, if it is complete and undamaged."""
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        files: dict[str, str] = description["files"]
        whole = description["digest"] == digest and all(_file_digest(folder / n) == d for n, d in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole or not set(_PRODUCTS) <= set(files):
        return None
    symbols = tuple(folder / name for name in files if name in _SYMBOLS)
    return BuildResult(
        sys=folder / _PRODUCTS[0], ctl=folder / _PRODUCTS[1], symbols=symbols, digest=digest, cached=True
    )


@contextlib.contextmanager
def _locked(folder: Path, deadline: Deadline) -> Iterator[None]:
    """One build at a time; the kernel lets go of the lock when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    # reading is enough to lock, and works on another user's file in a shared home
    with os.fdopen(os.open(folder / ".lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o664), "rb") as lock:

        def attempt() -> bool | NotYet:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return NotYet("another process is building")
            return True

        wait_until(attempt, deadline, what=f"the lock of {folder}")
        yield


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
