/*
 * inspect.c: inspections by number.
 */
#include "inspect.h"

#include "client.h"

_Use_decl_annotations_ ULONG InspectRemember(CLIENT *Client, const WSK_INSPECT_ID *Id) {
    INSPECT_TABLE *table = &Client->Inspections;
    ULONG number;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    number = ++table->Last;
    table->Entries[number % WSKLAB_MAX_INSPECTS] = (INSPECTION){.Number = number, .Id = *Id};
    KeReleaseSpinLock(&Client->Lock, irql);
    return number;
}

_Use_decl_annotations_ ULONG InspectNumber(CLIENT *Client, const WSK_INSPECT_ID *Id) {
    ULONG number = 0;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (ULONG i = 0; i < WSKLAB_MAX_INSPECTS; i++) {
        const INSPECTION *entry = &Client->Inspections.Entries[i];
        if (entry->Number > number && entry->Id.Key == Id->Key && entry->Id.SerialNumber == Id->SerialNumber) {
            number = entry->Number;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return number;
}

_Use_decl_annotations_ NTSTATUS InspectId(CLIENT *Client, ULONG Number, WSK_INSPECT_ID *Id) {
    const INSPECTION *entry = &Client->Inspections.Entries[Number % WSKLAB_MAX_INSPECTS];
    NTSTATUS status = STATUS_NOT_FOUND;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    if (Number != 0 && entry->Number == Number) {
        *Id = entry->Id;
        status = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return status;
}
