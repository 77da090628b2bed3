/*
 * fuzz.c: one input from its beginning to its end; see fuzz.h.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <unistd.h>

#include "../kernel/internal.h"
#include "../provider/knobs.h"
#include "../tests/scenario_peer.h"

#define PENDING 8u
#define PEERS 6u
#define OUTPUT_BYTES 8192u
/* Ports of a process: few, so that sockets and peers meet. */
#define ENDS 4u
/* A sequence is over after so many steps, however long its input is. */
#define MAX_STEPS 200u
/* The driver's own housekeeping: what it lets go of within so many tenths of a second (of virtual time). */
#define REST_TRIES 200u
/* So many times six seconds a request has after its cancel, and after the close. */
#define CANCEL_TRIES 5u
/* What the provider keeps without anybody's asking: tables, and the last sockets that were closed. */
#define PROVIDER_KEEPS (16u + 256u)

typedef struct PENDING_IOCTL {
    BOOLEAN Used;
    SHIM_IOCTL Ioctl;
    UCHAR Output[OUTPUT_BYTES];
} PENDING_IOCTL;

static SHIM_DRIVER *g_Driver;
static SHIM_HANDLE *g_Handles[HANDLES];
static PENDING_IOCTL g_Pending[PENDING];
static ULONG g_Next;
static int g_Peers[PEERS];
static ULONG g_Rest[MEMORY_KINDS]; /* what lives while nothing is going on */

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

ULONG Take(SOURCE *source) {
    return source->At < source->Size ? source->Data[source->At++] : 0;
}

ULONG Below(SOURCE *source, ULONG count) {
    return Take(source) % count;
}

BOOLEAN Ended(const SOURCE *source) {
    return source->At >= source->Size;
}

USHORT FuzzPort(ULONG which) {
    /* Not 24608 to 25664: beside zeros such a port looks like an address of AddressSanitizer's heap. */
    return (USHORT)(26000 + (ULONG)getpid() % 1500 * ENDS + which % ENDS);
}

static void Pause(ULONG milliseconds) {
    LARGE_INTEGER interval = {.QuadPart = -(LONGLONG)milliseconds * 10000};
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

/* Sockets are the host's: what they tell takes real time, of which a busy host gives little while the clock jumps. */
static void HostTime(void) {
    usleep(20000);
}

/* ---- Requests ------------------------------------------------------------------------------------------------------------ */

static void CloseHandles(void) {
    for (ULONG i = 0; i < HANDLES; i++) {
        if (g_Handles[i] != NULL) {
            ShimClose(g_Handles[i]);
            g_Handles[i] = NULL;
        }
    }
}

static BOOLEAN Ends(PENDING_IOCTL *pending) {
    for (ULONG tries = 0; tries < CANCEL_TRIES; tries++) {
        if (ShimIoctlWait(&pending->Ioctl, 6000) != STATUS_TIMEOUT) {
            return TRUE;
        }
        HostTime();
    }
    return FALSE;
}

static void Finish(PENDING_IOCTL *pending, BOOLEAN patient) {
    if (!pending->Used) {
        return;
    }
    if (!patient || ShimIoctlWait(&pending->Ioctl, 50) == STATUS_TIMEOUT) {
        ShimIoctlCancel(&pending->Ioctl);
        if (!Ends(pending)) {
            /* A forwarded request whose order is "after the close": its process would have to end, too. */
            CloseHandles();
            if (!Ends(pending)) {
                ShimAbort("fuzz", "a request was cancelled, all handles are closed, and it does not end");
            }
        }
    }
    pending->Used = FALSE;
}

void Issue(SOURCE *source, REQUEST *request) {
    PENDING_IOCTL *pending = &g_Pending[g_Next++ % PENDING];
    ULONG which = Below(source, 8) == 0 ? 1 : 0;
    SHIM_HANDLE *handle;

    Finish(pending, (g_Next & 1) != 0); /* it may have to close the handles */
    handle = g_Handles[which];
    if (handle == NULL) {
        return;
    }
    pending->Ioctl = (SHIM_IOCTL){.Output = pending->Output, .OutputSize = min(request->Room, OUTPUT_BYTES)};
    pending->Used = TRUE;
    ShimIoctlStart(handle, request->Code, request->Bytes, request->Size, &pending->Ioctl, NULL, NULL);
}

void Disturb(SOURCE *source) {
    ULONG which = Take(source);

    switch (which % 6) {
    case 0:
        Pause(which / 6);
        break;
    case 1:
        Finish(&g_Pending[which / 6 % PENDING], TRUE);
        break;
    case 2:
        if (g_Pending[which / 6 % PENDING].Used) {
            ShimIoctlCancel(&g_Pending[which / 6 % PENDING].Ioctl);
        }
        break;
    case 3: {
        WSKP_OPERATION operation = (WSKP_OPERATION)Below(source, WSKP_OPERATION_COUNT);
        WSKP_ORDER order = (WSKP_ORDER)(which / 6 % 5);
        /* Nobody can cancel the IRP of the published sample, and WSK does not wait for that. */
        BOOLEAN never = operation == WSKP_Socket && order == WSKP_ORDER_AFTER_CANCEL;
        WskpKnobOrder(operation, never ? WSKP_ORDER_LATER : order);
        break;
    }
    case 4: {
        WSKP_OPERATION operation = (WSKP_OPERATION)Below(source, WSKP_OPERATION_COUNT);
        /* A close that fails leaves a socket behind that nobody may touch again: WSK's closes do not. */
        BOOLEAN fails = (which & 64) != 0 && operation != WSKP_CloseSocket;
        WskpKnobFault(operation, 1, fails ? WSKP_FAULT_FAIL : WSKP_FAULT_DELAY, STATUS_INSUFFICIENT_RESOURCES, which);
        break;
    }
    default:
        if (which % 24 == 5) {
            WskpKnobEmptyEvents(which > 100);
        }
        if (which > 200 && g_Handles[which % HANDLES] != NULL) {
            ShimClose(g_Handles[which % HANDLES]);
            g_Handles[which % HANDLES] = NULL;
        }
        break;
    }
}

/* ---- Peers ----------------------------------------------------------------------------------------------------------------- */

void PeerAct(SOURCE *source) {
    static const char text[300] = "hello";
    UCHAR bytes[600];
    ULONG which = Take(source);
    int *peer = &g_Peers[which / 8 % PEERS];

    switch (which % 8) {
    case 0:
    case 1:
        PeerClose(*peer);
        *peer = PeerConnect(which & 128 ? 6 : 4, FuzzPort(Take(source)));
        break;
    case 2:
    case 3:
        if (*peer >= 0) {
            PeerSend(*peer, text, 1 + Below(source, sizeof(text)));
        }
        break;
    case 4:
        if (*peer >= 0) {
            PeerReceive(*peer, bytes, sizeof(bytes), 0);
        }
        break;
    case 5:
        if (*peer >= 0) {
            PeerReset(*peer);
            *peer = -1;
        }
        break;
    case 6: {
        USHORT any;
        int sender = PeerDatagram(4, &any);
        if (sender >= 0) {
            PeerSendTo(sender, 4, FuzzPort(Take(source)), text, Below(source, sizeof(text)));
            PeerClose(sender);
        }
        break;
    }
    default:
        PeerClose(*peer);
        *peer = -1;
        break;
    }
}

/* ---- Begin and end ----------------------------------------------------------------------------------------------------------- */

static BOOLEAN AtRest(const char **what) {
    static const char *const kinds[MEMORY_KINDS] = {"pool", "paged pool", "IRPs", "MDLs", "work items", "completion contexts",
                                                    "objects", "system buffers", "the provider's memory"};

    for (ULONG kind = 0; kind < MEMORY_KINDS; kind++) {
        if (MemoryCount((MEMORY_KIND)kind) > g_Rest[kind] + (kind == MEMORY_PROVIDER ? PROVIDER_KEEPS : 0)) {
            *what = kinds[kind];
            return FALSE;
        }
    }
    *what = "file objects";
    return ShimDriverHandles(g_Driver) == 0;
}

static void End(void) {
    const char *what;
    ULONG tries = 0;

    for (ULONG i = 0; i < PEERS; i++) {
        if (g_Peers[i] >= 0) {
            PeerReset(g_Peers[i]);
            g_Peers[i] = -1;
        }
    }
    WskpKnobsReset();
    WskpKnobProviderReady(TRUE);
    CloseHandles();
    for (ULONG i = 0; i < PENDING; i++) {
        Finish(&g_Pending[i], FALSE);
    }
    while (!AtRest(&what)) {
        if (++tries == REST_TRIES) {
            ShimAbort("fuzz", "all handles are closed and more is left than before: %s", what);
        }
        Pause(100);
        if (tries > REST_TRIES / 2) {
            HostTime();
        }
    }
}

static void Stop(void) {
    if (!NT_SUCCESS(ShimDriverUnload(g_Driver, FALSE))) {
        ShimAbort("fuzz", "the driver cannot be unloaded");
    }
    ShimStop();
}

static void Remember(void) {
    for (ULONG kind = 0; kind < MEMORY_KINDS; kind++) {
        g_Rest[kind] = MemoryCount((MEMORY_KIND)kind);
    }
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    SHIM_OPTIONS options = {.Deterministic = TRUE, .Impatient = TRUE, .Seed = 1};
    const char *driver = ShimSetting("driver");

    (void)count;
    (void)arguments;
    if (driver == NULL) {
        fprintf(stderr, "WSKLAB_SHIM_DRIVER names the driver: wsklab.so\n");
        exit(2);
    }
    ShimStart(&options);
    if (!NT_SUCCESS(ShimDriverLoad(driver, "wsklab", &g_Driver))) {
        fprintf(stderr, "%s does not load\n", driver);
        exit(2);
    }
    for (ULONG i = 0; i < PEERS; i++) {
        g_Peers[i] = -1;
    }
    Remember();
    atexit(Stop);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    SOURCE source = {.Data = data, .Size = size};
    SHIM_OPTIONS options = {.Impatient = TRUE, .Seed = 1 + Take(&source)};
    ULONG steps = 0;

    ShimSetOptions(&options);
    for (ULONG i = 0; i < HANDLES; i++) {
        if (!NT_SUCCESS(ShimOpen(WSKLAB_DEVICE_PATH, &g_Handles[i]))) {
            ShimAbort("fuzz", "the device cannot be opened any more");
        }
    }
    while (!Ended(&source) && steps++ < MAX_STEPS) {
        FuzzStep(&source);
    }
    End();
    return 0;
}
