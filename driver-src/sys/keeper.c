/*
 * keeper.c: the housekeeping thread.
 */
#include "keeper.h"

#include "client.h"
#include "issue.h"
#include "quiesce.h"
#include "teardown.h"
#include "threads.h"
#include "wait.h"

#define IDLE_NS (1000 * NANOSECONDS_PER_MS)
#define SHORTEST_NS NANOSECONDS_PER_MS
#define SECOND_100NS 10000000ll

static HANDLE g_Thread;
static KEVENT g_Wake;
static KEVENT g_Empty; /* set by the keeper when it finds no client */
static volatile LONG g_Stop;

_Use_decl_annotations_ VOID KeeperWake(VOID) {
    KeSetEvent(&g_Wake, IO_NO_INCREMENT, FALSE);
}

/* The next watched operation that is due, referenced and no longer watched. */
static OPERATION *TakeDue(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs) {
    OPERATION *found = NULL;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    for (PLIST_ENTRY entry = Client->Watched.Flink; entry != &Client->Watched; entry = entry->Flink) {
        OPERATION *operation = CONTAINING_RECORD(entry, OPERATION, WatchLink);
        if (operation->DueNs <= NowNs) {
            OperationReference(operation);
            OperationUnwatch(operation);
            found = operation;
            break;
        }
        if (operation->DueNs < *NextNs) {
            *NextNs = operation->DueNs;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

static VOID LookAt(CLIENT *Client, ULONG64 NowNs, ULONG64 *NextNs) {
    OPERATION *operation;

    for (LONG drops = InterlockedExchange(&Client->FileReferencesToDrop, 0); drops > 0; drops--) {
        ObDereferenceObject(Client->File);
    }
    while ((operation = TakeDue(Client, NowNs, NextNs)) != NULL) {
        if (operation->Record.state == WSKLAB_STATE_NEW) {
            OperationDelayOver(operation); /* with the launch's reference */
        } else {
            OperationGraceOver(operation);
        }
        OperationDereference(operation);
    }
    WaitsTick(Client, NowNs, NextNs);
    TeardownStep(Client, NowNs, NextNs);
}

static VOID NTAPI Run(PVOID Context) {
    UNREFERENCED_PARAMETER(Context);

    while (!g_Stop) {
        ULONG64 now = PlatformNow();
        ULONG64 next = now + IDLE_NS;
        LARGE_INTEGER timeout;
        ULONG id = 0;
        CLIENT *client;

        ThreadsReap();
        while ((client = ClientNext(id)) != NULL) {
            id = client->Id;
            LookAt(client, now, &next);
            ClientDereference(client);
        }
        if (id == 0) {
            KeSetEvent(&g_Empty, IO_NO_INCREMENT, FALSE);
        }
        now = PlatformNow();
        timeout.QuadPart = -(LONGLONG)((next > now + SHORTEST_NS ? next - now : SHORTEST_NS) / 100);
        KeWaitForSingleObject(&g_Wake, Executive, KernelMode, FALSE, &timeout);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

_Use_decl_annotations_ NTSTATUS KeeperStart(VOID) {
    OBJECT_ATTRIBUTES attributes;

    g_Stop = 0;
    KeInitializeEvent(&g_Wake, SynchronizationEvent, FALSE);
    KeInitializeEvent(&g_Empty, SynchronizationEvent, FALSE);
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    return PsCreateSystemThread(&g_Thread, THREAD_ALL_ACCESS, &attributes, NULL, NULL, Run, NULL);
}

_Use_decl_annotations_ VOID KeeperWaitForClients(VOID) {
    LARGE_INTEGER second = {.QuadPart = -SECOND_100NS};

    /* The one wait without a limit: what WSK still owns cannot be taken from it. */
    while (ClientCount() != 0) {
        KeeperWake();
        if (KeWaitForSingleObject(&g_Empty, Executive, KernelMode, FALSE, &second) == STATUS_TIMEOUT) {
            QuiesceLogOwners();
        }
    }
}

_Use_decl_annotations_ VOID KeeperStop(VOID) {
    InterlockedExchange(&g_Stop, 1);
    KeeperWake();
    ZwWaitForSingleObject(g_Thread, FALSE, NULL);
    ZwClose(g_Thread);
    g_Thread = NULL;
    ThreadsJoin();
}
