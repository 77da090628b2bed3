/*
 * absent_provider.c: a WSK that is never ready, for tests of the kernel itself.
 */
#include "shim.h"
#include "wsklab_wsk.h"

void ProviderStart(void) {
}

void ProviderStop(void) {
}

NTSTATUS WSKAPI WskRegister(PWSK_CLIENT_NPI WskClientNpi, PWSK_REGISTRATION WskRegistration) {
    UNREFERENCED_PARAMETER(WskClientNpi);
    UNREFERENCED_PARAMETER(WskRegistration);
    ShimEnterApi("WskRegister", PASSIVE_LEVEL);
    return STATUS_SUCCESS;
}

VOID WSKAPI WskDeregister(PWSK_REGISTRATION WskRegistration) {
    UNREFERENCED_PARAMETER(WskRegistration);
    ShimEnterApi("WskDeregister", PASSIVE_LEVEL);
}

NTSTATUS WSKAPI WskCaptureProviderNPI(PWSK_REGISTRATION WskRegistration, ULONG WaitTimeout, PWSK_PROVIDER_NPI WskProviderNpi) {
    LARGE_INTEGER timeout = {.QuadPart = -(LONGLONG)WaitTimeout * 10000};

    UNREFERENCED_PARAMETER(WskRegistration);
    UNREFERENCED_PARAMETER(WskProviderNpi);
    ShimEnterApi("WskCaptureProviderNPI", WaitTimeout == WSK_NO_WAIT ? DISPATCH_LEVEL : PASSIVE_LEVEL);
    if (WaitTimeout != WSK_NO_WAIT) {
        KeDelayExecutionThread(KernelMode, FALSE, &timeout);
    }
    return STATUS_DEVICE_NOT_READY;
}

VOID WSKAPI WskReleaseProviderNPI(PWSK_REGISTRATION WskRegistration) {
    UNREFERENCED_PARAMETER(WskRegistration);
    ShimAbort("wsk-release", "WskReleaseProviderNPI without a capture");
}

NTSTATUS WSKAPI WskQueryProviderCharacteristics(PWSK_REGISTRATION WskRegistration,
                                                PWSK_PROVIDER_CHARACTERISTICS WskProviderCharacteristics) {
    UNREFERENCED_PARAMETER(WskRegistration);
    UNREFERENCED_PARAMETER(WskProviderCharacteristics);
    ShimEnterApi("WskQueryProviderCharacteristics", DISPATCH_LEVEL);
    return STATUS_DEVICE_NOT_READY;
}
