/*
 * registration.c: the functions that NETIO.SYS exports for WSK clients.
 */
#include "client.h"
#include "knobs.h"

/* With the lock: the client of a block, or NULL when it is deregistered. */
static WSKP_CLIENT *ClientOf(const char *function, PWSK_REGISTRATION registration) {
    if (registration->ReservedRegistrationState == WSKP_BLOCK_DEREGISTERED) {
        return NULL;
    }
    if (registration->ReservedRegistrationState != WSKP_BLOCK_REGISTERED) {
        WskpClientError("WSK-REG-001", "%s: the block %p is not registered", function, (void *)registration);
    }
    return registration->ReservedRegistrationContext;
}

static void CheckBlock(PWSK_REGISTRATION registration) {
    ShimRequireNonPaged("WSK_REGISTRATION", registration, sizeof(*registration));
    ShimRequireMemory("WSK_REGISTRATION", registration, sizeof(*registration));
}

NTSTATUS WSKAPI WskRegister(PWSK_CLIENT_NPI WskClientNpi, PWSK_REGISTRATION WskRegistration) {
    WSKP_CLIENT *client;

    ShimEnterApi("WskRegister", PASSIVE_LEVEL);
    ShimRequireMemory("WSK_CLIENT_NPI", WskClientNpi, sizeof(*WskClientNpi));
    ShimRequireNonPaged("WSK_CLIENT_DISPATCH", WskClientNpi->Dispatch, sizeof(*WskClientNpi->Dispatch));
    CheckBlock(WskRegistration);
    if (WskRegistration->ReservedRegistrationState == WSKP_BLOCK_REGISTERED) {
        WskpClientError("WSK-REG-010", "WskRegister: the block %p is registered already", (void *)WskRegistration);
    }
    if (MutantIs("WSK-REG-001/refused") || (MutantIs("WSK-REG-010/one-at-a-time") && !IsListEmpty(&g_WskpClients)) ||
        (MutantIs("WSK-REG-009/block-used-up") && WskRegistration->ReservedRegistrationState == WSKP_BLOCK_DEREGISTERED)) {
        return STATUS_UNSUCCESSFUL;
    }
    client = WskpClientCreate(WskClientNpi->Dispatch, WskClientNpi->ClientContext);
    if (client == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    WskRegistration->ReservedRegistrationContext = client;
    WskRegistration->ReservedRegistrationState = WSKP_BLOCK_REGISTERED;
    return STATUS_SUCCESS;
}

/* With the lock: what a capture answers now; STATUS_PENDING: wait. */
static NTSTATUS TryCapture(WSKP_CLIENT *client, PWSK_PROVIDER_NPI npi) {
    if (client->Deregistering) {
        return STATUS_DEVICE_NOT_READY; /* DET-006 */
    }
    if (!WskpKnobsProviderReady()) {
        return STATUS_PENDING;
    }
    if (!WskpClientVersionSupported(client)) {
        return STATUS_NOINTERFACE; /* REG-007 */
    }
    WskpClientCapture(client, npi);
    if (MutantIs("WSK-REG-002/client-missing")) {
        npi->Client = NULL;
    }
    return STATUS_SUCCESS;
}

/* How long may still be waited, as an NT time; FALSE: no longer. */
static BOOLEAN WaitLeft(ULONG timeout, ULONG64 started, LARGE_INTEGER *left) {
    ULONG64 waited = WskpNowMs() - started;
    if (timeout == WSK_INFINITE_WAIT) {
        left->QuadPart = INT64_MIN / 2;
        return TRUE;
    }
    left->QuadPart = -(LONGLONG)(timeout - waited) * 10000;
    return waited < timeout;
}

NTSTATUS WSKAPI WskCaptureProviderNPI(PWSK_REGISTRATION WskRegistration, ULONG WaitTimeout, PWSK_PROVIDER_NPI WskProviderNpi) {
    ULONG64 started = WskpNowMs();
    WSKP_WAITER waiter;
    WSKP_CLIENT *client;
    NTSTATUS status;
    KIRQL irql;

    /* REG-005: only a capture that does not wait is allowed above PASSIVE_LEVEL. */
    ShimEnterApi("WskCaptureProviderNPI", WaitTimeout == WSK_NO_WAIT ? DISPATCH_LEVEL : PASSIVE_LEVEL);
    CheckBlock(WskRegistration);
    if ((MutantIs("WSK-REG-005/refused-at-dispatch") && KeGetCurrentIrql() == DISPATCH_LEVEL) ||
        (MutantIs("WSK-REG-006/expires-at-once") && WaitTimeout != WSK_NO_WAIT && WaitTimeout != WSK_INFINITE_WAIT)) {
        return MutantIs("WSK-REG-005/refused-at-dispatch") ? STATUS_UNSUCCESSFUL : STATUS_DEVICE_NOT_READY;
    }
    irql = WskpLock();
    client = ClientOf("WskCaptureProviderNPI", WskRegistration);
    if (client == NULL) {
        WskpUnlock(irql);
        return MutantIs("WSK-DET-006/captured-after-deregister") ? STATUS_SUCCESS : STATUS_DEVICE_NOT_READY;
    }
    WskpWaiterBegin(client, &waiter);
    for (;;) {
        LARGE_INTEGER left;
        status = TryCapture(client, WskProviderNpi);
        if (status != STATUS_PENDING) {
            break;
        }
        if (WaitTimeout == WSK_NO_WAIT || !WaitLeft(WaitTimeout, started, &left)) {
            status = STATUS_DEVICE_NOT_READY;
            break;
        }
        irql = WskpWaiterWait(&waiter, &left, irql);
    }
    WskpWaiterEnd(&waiter);
    WskpClientChanged(client);
    WskpUnlock(irql);
    return status;
}

VOID WSKAPI WskReleaseProviderNPI(PWSK_REGISTRATION WskRegistration) {
    WSKP_CLIENT *client;
    KIRQL irql;

    ShimEnterApi("WskReleaseProviderNPI", DISPATCH_LEVEL);
    CheckBlock(WskRegistration);
    irql = WskpLock();
    client = ClientOf("WskReleaseProviderNPI", WskRegistration);
    if (client == NULL) {
        WskpClientError("WSK-REG-011", "WskReleaseProviderNPI after WskDeregister has returned");
    }
    WskpClientRelease(client);
    WskpUnlock(irql);
}

NTSTATUS WSKAPI WskQueryProviderCharacteristics(PWSK_REGISTRATION WskRegistration,
                                                PWSK_PROVIDER_CHARACTERISTICS WskProviderCharacteristics) {
    WSKP_CLIENT *client;
    KIRQL irql;

    ShimEnterApi("WskQueryProviderCharacteristics", DISPATCH_LEVEL);
    CheckBlock(WskRegistration);
    irql = WskpLock();
    client = ClientOf("WskQueryProviderCharacteristics", WskRegistration);
    WskpUnlock(irql);
    if (client == NULL || !WskpKnobsProviderReady()) {
        return STATUS_DEVICE_NOT_READY;
    }
    /* REG-008: also after a refused capture. */
    WskProviderCharacteristics->HighestVersion = MutantIs("WSK-REG-008/range-upside-down") ? 0 : WSKP_HIGHEST_VERSION;
    WskProviderCharacteristics->LowestVersion = WSKP_LOWEST_VERSION;
    return STATUS_SUCCESS;
}

VOID WSKAPI WskDeregister(PWSK_REGISTRATION WskRegistration) {
    WSKP_CLIENT *client;
    KIRQL irql;

    ShimEnterApi("WskDeregister", PASSIVE_LEVEL);
    CheckBlock(WskRegistration);
    irql = WskpLock();
    client = ClientOf("WskDeregister", WskRegistration);
    WskpUnlock(irql);
    if (client == NULL) {
        WskpClientError("WSK-DET-001", "WskDeregister: the block %p is deregistered already", (void *)WskRegistration);
    }
    WskpClientDestroy(client, WskRegistration);
}
