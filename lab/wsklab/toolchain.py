"""From the driver's source to a file that Windows loads: cross-build, certificate, signature; and to a shim guest.

Builds are content-addressed (`wsklab.builder`): the same sources with the same compiler are built once.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wsklab.builder import Recipe, build, file_digest, locked
from wsklab.deadline import Deadline
from wsklab.errors import HostCommandError, ToolchainError
from wsklab.pe_check import Finding, check_pe, require_deployable
from wsklab.process import run

__all__ = [
    "BuildResult",
    "Certificate",
    "Finding",
    "ShimBuild",
    "build_driver",
    "build_package",
    "build_shim",
    "check_pe",
    "make_certificate",
    "require_deployable",
    "sign",
]

_SUBJECT: Final = "wsklab test signing"

# Clocks of test machines are wrong in both directions.
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)


#: For Windows: the driver and its user-mode part.
WINDOWS: Final = Recipe(
    preset="mingw",
    targets=("wsklab", "wskctl"),
    products=("wsklab.sys", "wskctl.exe"),
    symbols=("wsklab.debug", "wskctl.debug", "wsklab.sys.debug", "wskctl.exe.debug", "wsklab.map"),
    tools=("x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-ld", "cmake"),
    ignored=frozenset({"shim", "tests"}),
)

#: For the host: the driver under sanitizers, and the program that is its guest.
SHIM: Final = Recipe(
    preset="shim-gcc",
    targets=("wsklab", "wsklab-shim"),
    products=("wsklab.so", "wsklab-shim"),
    tools=("gcc", "ld", "cmake"),
    ignored=frozenset({"tests"}),
)


#: Test builds: the same with deliberate failures (driver-src/sys/failures.h); for the tests of the lab itself.
WINDOWS_FAILURES: Final = replace(WINDOWS, preset="mingw-failures")
SHIM_FAILURES: Final = replace(SHIM, preset="shim-failures")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimBuild:
    """A shim guest's files.

    Attributes:
        program: the guest's process.
        driver: our driver, for it.
        digest: SHA-256 over all inputs.
    """

    program: Path
    driver: Path
    digest: str


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
        return file_digest(self.sys)


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


def build_driver(
    source: Path,
    build_dir: Path,
    deadline: Deadline,
    *,
    failures: bool = False,
    progress: Callable[[str], None] | None = None,
) -> BuildResult:
    """Cross-build `wsklab.sys` and `wskctl.exe`, unless the same inputs were built before.

    Args:
        source: the folder `driver-src`; nothing is written there.
        build_dir: where builds are kept, one folder per digest.
        deadline: bounds everything, waiting for another build included.
        failures: the test build that can fail on purpose.
        progress: told what is going on.

    Raises:
        ToolchainError: it does not compile; the last lines of the compiler are in `why`.
        HostCommandError: a tool is not there.
    """
    recipe = WINDOWS_FAILURES if failures else WINDOWS
    folder, digest, cached = build(recipe, source, build_dir, deadline, progress)
    symbols = tuple(folder / name for name in WINDOWS.symbols if (folder / name).exists())
    return BuildResult(
        sys=folder / WINDOWS.products[0],
        ctl=folder / WINDOWS.products[1],
        symbols=symbols,
        digest=digest,
        cached=cached,
    )


def build_shim(
    source: Path,
    build_dir: Path,
    deadline: Deadline,
    *,
    failures: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ShimBuild:
    """Build the kernel shim with the driver for this host, as `build_driver` builds for Windows."""
    folder, digest, _ = build(SHIM_FAILURES if failures else SHIM, source, build_dir, deadline, progress)
    return ShimBuild(driver=folder / SHIM.products[0], program=folder / SHIM.products[1], digest=digest)


def build_package(
    source: Path,
    build_dir: Path,
    keys: Path,
    deadline: Deadline,
    *,
    failures: bool = False,
    progress: Callable[[str], None] | None = None,
) -> BuildResult:
    """Build, sign and check: the driver as it is deployed, and `wskctl.exe`.

    Args:
        keys: the folder of the signing certificate, made when it is not there.
        failures: the test build that can fail on purpose.

    Raises:
        ToolchainError: it does not build, or a check of the signed file fails; the check is named.
    """
    say = progress or (lambda _step: None)
    built = build_driver(source, build_dir, deadline, failures=failures, progress=progress)
    certificate = make_certificate(keys)
    folder = built.sys.parent / f"signed-{certificate.fingerprint[:12]}"
    signed = folder / built.sys.name
    with locked(build_dir, deadline):
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
