"""How the image of a Windows guest is made: the `recipe` section of a profile of kind windows.

Everything that differs between releases is data here, so that a new release is a new folder. What is
known of each release comes from the project's fact sheet on Windows guests; nothing of it has been
seen by this project on a running Windows.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Medium", "OpenSshSource", "VerifierAbilities", "VerifierMode", "WindowsRecipe", "WindowsStage"]

#: Where the guest's SSH server comes from: the Win32-OpenSSH package on the answer disc, a Feature on
#: Demand (needs Windows Update), or what the release brings along.
OpenSshSource = Literal["package", "capability", "inbox"]

#: How Driver Verifier watches a driver; `off` is always possible.
VerifierMode = Literal["standard", "volatile", "low-resources"]

#: The stages of an unattended installation, in their order.
WindowsStage = Literal["winpe", "copy", "specialise", "oobe", "provisioning", "seal"]

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_ProductKey = Annotated[str, Field(pattern=r"^[A-Z0-9]{5}(-[A-Z0-9]{5}){4}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Medium(_Section):
    """An evaluation medium that is known for the release.

    Attributes:
        file: its file name as published.
        sha256: its digest; media without one are not offered for download.
        size: its size in bytes.
        url: where it could be had when this was written; links rotate, the digest decides.
        note: for people.
    """

    file: str
    sha256: _Sha256
    size: Annotated[int, Field(gt=0)]
    url: Annotated[str, Field(pattern=r"^https://")] | None = None
    note: str = ""


class VerifierAbilities(_Section):
    """What Driver Verifier of the release can do.

    Attributes:
        modes: besides `off`.
        standard_flags: the flags of `/standard`, as `verifier /flags` takes them.
        volatile_flags: the flags that can be changed without a reboot; 0 where that is unknown.
        note: for people.
    """

    modes: tuple[VerifierMode, ...]
    standard_flags: Annotated[int, Field(ge=0)]
    volatile_flags: Annotated[int, Field(ge=0)]
    note: str = ""


class WindowsRecipe(_Section):
    """An unattended installation of one release.

    Attributes:
        builder: always `windows`.
        family: client or server media.
        media_build: the build number that the medium must have, e.g. 26100.
        editions: wanted values of EDITIONID in the medium's WIM, the best first.
        installation_type: the wanted INSTALLATIONTYPE: tells a desktop from a core installation.
        keys: public setup keys by EDITIONID, for media that are not evaluation media. They select an
            edition; they activate nothing.
        openssh: sources of the SSH server, tried in this order.
        hardware_check_bypass: Setup is told to skip its checks of TPM, Secure Boot and memory (Windows 11).
        cpu_features: processor features without which the release does not boot.
        evaluation_days: how long an evaluation edition runs.
        verifier: Driver Verifier's abilities.
        language: used when the medium does not say; a medium's own language wins.
        install_budget_s: seconds for the whole installation on KVM; scaled by the lab's timeout factor.
        stages: seconds that each stage usually takes, for progress only.
        media: known evaluation media.
    """

    builder: Literal["windows"]
    family: Literal["client", "server"]
    media_build: Annotated[int, Field(ge=14393)]
    editions: Annotated[tuple[str, ...], Field(min_length=1)]
    installation_type: Literal["Client", "Server", "Server Core"]
    keys: dict[str, _ProductKey] = Field(default_factory=dict)
    openssh: Annotated[tuple[OpenSshSource, ...], Field(min_length=1)]
    hardware_check_bypass: bool = False
    cpu_features: tuple[str, ...] = ()
    evaluation_days: Annotated[int, Field(gt=0)]
    verifier: VerifierAbilities
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}-[A-Za-z]{2,8}$")] = "en-US"
    install_budget_s: Annotated[float, Field(gt=0)] = 7200
    stages: dict[WindowsStage, float]
    media: tuple[Medium, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> WindowsRecipe:
        if (self.installation_type == "Client") != (self.family == "client"):
            raise ValueError(f"family {self.family} does not go with installation_type {self.installation_type}")
        if "inbox" in self.openssh and self.media_build < 26100:
            raise ValueError("no release before build 26100 brings an SSH server along")
        return self

    @property
    def virtio_name(self) -> str:
        """What virtio-win's folders call the release."""
        if self.family == "client":
            return "w11" if self.media_build >= 22000 else "w10"
        names = {14393: "2k16", 17763: "2k19", 20348: "2k22"}
        return names.get(self.media_build, "2k25")

    @property
    def media_digests(self) -> frozenset[str]:
        """SHA-256 of every known medium."""
        return frozenset(medium.sha256 for medium in self.media)
