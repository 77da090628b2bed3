/*
 * scenario.c: see scenario.h.
 */
#include "scenario.h"

#include <stdlib.h>

#define OUTPUT_BYTES 65536u

static WSKLAB_HEADER Header(size_t size) {
    return (WSKLAB_HEADER){.size = (uint32_t)size, .abi = WSKLAB_ABI_VERSION};
}

void Sleep(ULONG milliseconds) {
    LARGE_INTEGER interval = {.QuadPart = -(LONGLONG)milliseconds * 10000};
    KeDelayExecutionThread(KernelMode, FALSE, &interval);
}

BOOLEAN UserOpen(USER *u) {
    u->LastOp = 0;
    return NT_SUCCESS(ShimOpen(WSKLAB_DEVICE_PATH, &u->Handle));
}

void UserClose(USER *u) {
    if (u->Handle != NULL) {
        ShimClose(u->Handle);
        u->Handle = NULL;
    }
}

NTSTATUS UserIoctl(USER *u, ULONG code, const void *input, ULONG inputSize, void *output, ULONG outputSize, ULONG *got) {
    ULONG_PTR information = 0;
    NTSTATUS status = STATUS_INVALID_HANDLE;

    if (u->Handle != NULL) {
        status = ShimIoctl(u->Handle, code, input, inputSize, output, outputSize, &information);
    }
    if (got != NULL) {
        *got = (ULONG)information;
    }
    return status;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------- */

/* What follows from the rest of a request. */
static void Complete(WSKLAB_SUBMIT *submit, ULONG op, ULONG dataSize, ULONG extraSize) {
    submit->header = Header(sizeof(*submit));
    submit->op_id = op;
    submit->data_length = dataSize;
    submit->extra_length = extraSize;
    if (dataSize > 0) {
        submit->fill = WSKLAB_FILL_DATA;
        submit->buffer_length = submit->buffer_length == 0 ? dataSize : submit->buffer_length;
    }
    if (submit->mdl_shape == WSKLAB_MDL_NULL && submit->buffer_length > 0) {
        submit->mdl_shape = submit->chunks[0] != 0 ? WSKLAB_MDL_CHAIN : WSKLAB_MDL_SINGLE;
    }
    if (submit->address_use == 0) {
        submit->address_use =
            (UCHAR)((submit->local.length > 0 ? WSKLAB_ADDRESS_LOCAL : 0) | (submit->remote.length > 0 ? WSKLAB_ADDRESS_REMOTE : 0));
    }
}

static NTSTATUS Send(USER *u, ULONG code, const WSKLAB_SUBMIT *submit, const void *data, const void *extra, void *output,
                     ULONG outputSize, ULONG *got) {
    ULONG size = (ULONG)sizeof(*submit) + submit->data_length + submit->extra_length;
    UCHAR *request = malloc(size);
    NTSTATUS status;

    memcpy(request, submit, sizeof(*submit));
    if (submit->data_length > 0) {
        memcpy(request + sizeof(*submit), data, submit->data_length);
    }
    if (submit->extra_length > 0) {
        memcpy(request + sizeof(*submit) + submit->data_length, extra, submit->extra_length);
    }
    status = UserIoctl(u, code, request, size, output, outputSize, got);
    free(request);
    return status;
}

static void Require(BOOLEAN holds, const char *what, const WSKLAB_RECORD *record) {
    if (!holds) {
        ShimAbort("invariant", "operation %u (function %u): %s; state %u, completions %u, returned %08x, completion %08x, flags %x",
                  record->op_id, record->function, what, record->state, record->completion_count, record->returned_status,
                  record->completion_status, record->flags);
    }
}

/* What holds of every record, whatever the provider did. */
static void CheckRecord(const WSKLAB_RECORD *record) {
    BOOLEAN completed = record->state == WSKLAB_STATE_COMPLETED;
    BOOLEAN seen = record->completion_count > 0;

    Require(record->size == sizeof(*record), "size", record);
    Require(record->state <= WSKLAB_STATE_NOT_STARTED, "state", record);
    Require(!completed || (record->flags & WSKLAB_RECORD_RETURNED), "final without a return", record);
    Require(record->completion_count <= 1, "completed more than once", record);
    Require(!seen || (record->flags & WSKLAB_RECORD_IRP_MATCH), "another IRP", record);
    Require(!seen || (record->flags & WSKLAB_RECORD_CONTEXT_MATCH), "another context", record);
    Require(!seen || record->completion_irql <= DISPATCH_LEVEL, "completion IRQL", record);
    Require(record->state != WSKLAB_STATE_NOT_STARTED || record->driver_status != 0, "not started and no reason", record);
    Require(!(record->flags & WSKLAB_RECORD_GUARDS_CHECKED) || (record->flags & WSKLAB_RECORD_GUARDS_INTACT), "guards", record);
    Require(!(record->flags & WSKLAB_RECORD_POISONED) || !completed || (record->flags & WSKLAB_RECORD_POISON_INTACT),
            "somebody wrote into an IRP that was done", record);
}

/* A refused request as a record. */
static WSKLAB_RECORD Refused(ULONG op, NTSTATUS status) {
    return (WSKLAB_RECORD){.size = sizeof(WSKLAB_RECORD),
                           .op_id = op,
                           .state = WSKLAB_STATE_NOT_STARTED,
                           .driver_status = NT_SUCCESS(status) ? STATUS_INTERNAL_ERROR : status};
}

static WSKLAB_RECORD TakeRecord(ULONG op, NTSTATUS status, const UCHAR *output, ULONG got) {
    WSKLAB_RECORD record;

    if (!NT_SUCCESS(status) || got < sizeof(record)) {
        return Refused(op, status);
    }
    memcpy(&record, output, sizeof(record));
    CheckRecord(&record);
    return record;
}

ULONG StartWith(USER *u, WSKLAB_SUBMIT submit, const void *data, ULONG dataSize, const void *extra, ULONG extraSize) {
    ULONG op = ++u->LastOp;

    Complete(&submit, op, dataSize, extraSize);
    Send(u, IOCTL_WSKLAB_SUBMIT, &submit, data, extra, NULL, 0, NULL);
    return op;
}

ULONG Start(USER *u, WSKLAB_SUBMIT submit) {
    return StartWith(u, submit, NULL, 0, NULL, 0);
}

WSKLAB_RECORD End(USER *u, ULONG op) {
    WSKLAB_WAIT wait = {.header = Header(sizeof(wait)), .op_id = op, .timeout_ms = WAIT_MS, .flags = WSKLAB_RELEASE};
    UCHAR *output = malloc(OUTPUT_BYTES);
    ULONG got;
    NTSTATUS status = UserIoctl(u, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), output, OUTPUT_BYTES, &got);
    WSKLAB_RECORD record = TakeRecord(op, status, output, got);

    free(output);
    return record;
}

WSKLAB_RECORD Look(USER *u, ULONG op) {
    WSKLAB_FETCH fetch = {.header = Header(sizeof(fetch)), .op_id = op, .data_length = OUTPUT_BYTES};
    UCHAR *output = malloc(OUTPUT_BYTES);
    ULONG got;
    NTSTATUS status = UserIoctl(u, IOCTL_WSKLAB_FETCH, &fetch, sizeof(fetch), output, OUTPUT_BYTES, &got);
    WSKLAB_RECORD record = TakeRecord(op, status, output, got);

    free(output);
    return record;
}

ULONG Cancel(USER *u, ULONG op) {
    WSKLAB_CANCEL cancel = {.header = Header(sizeof(cancel)), .op_id = op};
    WSKLAB_CANCEL_RESULT result = {.outcome = WSKLAB_CANCEL_NONE};

    UserIoctl(u, IOCTL_WSKLAB_CANCEL, &cancel, sizeof(cancel), &result, sizeof(result), NULL);
    return result.outcome;
}

WSKLAB_RECORD DoWith(USER *u, WSKLAB_SUBMIT submit, const void *data, ULONG dataSize, const void *extra, ULONG extraSize) {
    return End(u, StartWith(u, submit, data, dataSize, extra, extraSize));
}

WSKLAB_RECORD Do(USER *u, WSKLAB_SUBMIT submit) {
    return End(u, Start(u, submit));
}

WSKLAB_RECORD RunAtOnce(USER *u, WSKLAB_SUBMIT submit) {
    ULONG op = ++u->LastOp;
    UCHAR *output = malloc(OUTPUT_BYTES);
    WSKLAB_RECORD record;
    NTSTATUS status;
    ULONG got;

    Complete(&submit, op, 0, 0);
    submit.wait_ms = WAIT_MS;
    submit.wait_flags = WSKLAB_RELEASE;
    status = Send(u, IOCTL_WSKLAB_RUN, &submit, NULL, NULL, output, OUTPUT_BYTES, &got);
    record = TakeRecord(op, status, output, got);
    free(output);
    return record;
}

BOOLEAN Succeeded(const WSKLAB_RECORD *record) {
    return record->state == WSKLAB_STATE_COMPLETED && NT_SUCCESS(record->returned_status) &&
           (record->completion_count == 0 || NT_SUCCESS(record->completion_status));
}

/* ---- Addresses ----------------------------------------------------------------------------------------------------------- */

WSKLAB_ADDRESS Any(int family) {
    WSKLAB_ADDRESS address = {.length = family == 4 ? 16 : 28};
    address.bytes[0] = family == 4 ? 2 : 23;
    return address;
}

WSKLAB_ADDRESS Loopback(int family, uint16_t port) {
    WSKLAB_ADDRESS address = Any(family);

    address.bytes[2] = (uint8_t)(port >> 8);
    address.bytes[3] = (uint8_t)port;
    if (family == 4) {
        address.bytes[4] = 127;
        address.bytes[7] = 1;
    } else {
        address.bytes[23] = 1;
    }
    return address;
}

uint16_t PortOf(const WSKLAB_ADDRESS *address) {
    return (uint16_t)(address->bytes[2] << 8 | address->bytes[3]);
}

/* ---- Common beginnings ----------------------------------------------------------------------------------------------------- */

uint16_t Bind(USER *u, ULONG socket) {
    WSKLAB_RECORD record = Do(u, OP(BIND, .socket = socket, .local = Loopback(4, 0)));

    if (!Succeeded(&record)) {
        return 0;
    }
    record = Do(u, OP(GET_LOCAL_ADDRESS, .socket = socket, .address_use = WSKLAB_ADDRESS_LOCAL));
    return Succeeded(&record) ? PortOf(&record.local) : 0;
}

uint16_t Listener(USER *u, ULONG socket, UCHAR dispatch, ULONG context) {
    Do(u, OP(SOCKET, .new_socket = socket, .flags = WSKLAB_CATEGORY_LISTEN, .family = 2, .type = 1, .protocol = 6,
             .dispatch = dispatch, .socket_context = context));
    return Bind(u, socket);
}

int Connected(USER *u, ULONG socket, UCHAR dispatch, ULONG context) {
    uint16_t port = 0;
    int listener = PeerListen(4, &port);
    WSKLAB_RECORD record;
    int peer = -1;

    Do(u, OP(SOCKET, .new_socket = socket, .flags = WSKLAB_CATEGORY_CONNECTION, .family = 2, .type = 1, .protocol = 6,
             .dispatch = dispatch, .socket_context = context));
    Do(u, OP(BIND, .socket = socket, .local = Any(4)));
    record = Do(u, OP(CONNECT, .socket = socket, .remote = Loopback(4, port)));
    if (Succeeded(&record)) {
        peer = PeerAccept(listener, 1000);
    }
    PeerClose(listener);
    return peer;
}

uint16_t Datagram(USER *u, ULONG socket, UCHAR dispatch, ULONG context) {
    Do(u, OP(SOCKET, .new_socket = socket, .flags = WSKLAB_CATEGORY_DATAGRAM, .family = 2, .type = 2, .protocol = 17,
             .dispatch = dispatch, .socket_context = context));
    return Bind(u, socket);
}

void Events(USER *u, ULONG socket, ULONG mask) {
    Do(u, OP(CONTROL_SOCKET, .socket = socket, .switches = WSKLAB_SWITCH_NULL_IRP, .control_type = WskSetOption,
             .control_code = SO_WSK_EVENT_CALLBACK,
             .control_level = SOL_SOCKET, .input_kind = WSKLAB_INPUT_EVENT_CALLBACK, .input_size = 16, .event_mask = mask,
             .argument_use = WSKLAB_USE_SIZE_RETURNED));
}

NTSTATUS Script(USER *u, ULONG socket, ULONG callback, const WSKLAB_ANSWER *answers, ULONG count) {
    UCHAR request[sizeof(WSKLAB_SCRIPT) + WSKLAB_MAX_ANSWERS * sizeof(WSKLAB_ANSWER)];
    WSKLAB_SCRIPT script = {.header = Header(sizeof(script)), .socket = socket, .callback = callback, .count = count};
    WSKLAB_SCRIPT_RESULT result;

    memcpy(request, &script, sizeof(script));
    memcpy(request + sizeof(script), answers, count * sizeof(*answers));
    return UserIoctl(u, IOCTL_WSKLAB_SCRIPT, request, (ULONG)(sizeof(script) + count * sizeof(*answers)), &result, sizeof(result), NULL);
}

ULONG DrainEvents(USER *u) {
    WSKLAB_EVENTS request = {.header = Header(sizeof(request))};
    UCHAR *output = malloc(OUTPUT_BYTES);
    WSKLAB_EVENTS_RESULT result = {.count = 0};
    ULONG total = 0;

    do {
        ULONG got = 0;
        result.count = 0;
        if (NT_SUCCESS(UserIoctl(u, IOCTL_WSKLAB_EVENTS, &request, sizeof(request), output, OUTPUT_BYTES, &got)) &&
            got >= sizeof(result)) {
            memcpy(&result, output, sizeof(result));
        }
        total += result.count;
    } while (result.count > 0 && result.remaining > 0);
    free(output);
    return total;
}

typedef struct HALF {
    void (*Run)(USER *u);
    USER *User;
} HALF;

static void RunHalf(void *context) {
    HALF *half = context;
    half->Run(half->User);
}

void Both(void (*first)(USER *u), void (*second)(USER *u), USER *u) {
    /* Numbers of operations must not collide: each half has its own copy of the user. */
    USER copies[2] = {*u, *u};
    HALF halves[2] = {{first, &copies[0]}, {second, &copies[1]}};
    SHIM_THREAD *threads[2];

    copies[0].LastOp += 10000;
    copies[1].LastOp += 20000;
    for (ULONG i = 0; i < 2; i++) {
        threads[i] = ShimThreadStart(i == 0 ? "first half" : "second half", RunHalf, &halves[i]);
    }
    for (ULONG i = 0; i < 2; i++) {
        ShimThreadJoin(threads[i]);
    }
    u->LastOp += 30000;
    if (copies[0].Handle == NULL || copies[1].Handle == NULL) {
        u->Handle = NULL; /* one half has closed it */
    }
}

void CheckLedger(USER *u) {
    WSKLAB_LEDGER_REQUEST request = {.header = Header(sizeof(request))};
    WSKLAB_LEDGERS ledgers;
    const WSKLAB_LEDGER *all[2] = {&ledgers.client, &ledgers.driver};
    ULONG got = 0;

    if (!NT_SUCCESS(UserIoctl(u, IOCTL_WSKLAB_LEDGER, &request, sizeof(request), &ledgers, sizeof(ledgers), &got)) ||
        got != sizeof(ledgers)) {
        return;
    }
    for (ULONG i = 0; i < 2; i++) {
        const WSKLAB_LEDGER *l = all[i];
        if (l->issued != l->completed + l->outstanding + l->lost) {
            ShimAbort("invariant", "the ledger: issued %u, completed %u, outstanding %u, lost %u", (ULONG)l->issued,
                      (ULONG)l->completed, (ULONG)l->outstanding, (ULONG)l->lost);
        }
        if (l->irps_freed > l->irps_allocated || l->mdls_freed > l->mdls_allocated || l->pool_frees > l->pool_allocations ||
            l->sockets_closed > l->sockets_opened || l->releases > l->captures || l->objects_released > l->objects_made) {
            ShimAbort("invariant", "the ledger: more was given back than taken");
        }
    }
}
